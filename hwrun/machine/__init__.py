"""What the machine under a process is and does: steadiness, clocks, load, accelerators, offloads."""
