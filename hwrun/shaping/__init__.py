"""Shaping a device's own interface: the setting as a value, the kernel by netlink, and a lease that always ends."""
