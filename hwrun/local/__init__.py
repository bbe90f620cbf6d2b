"""Two hosts on this machine: namespaces, a packet relay between them, and their workers."""
