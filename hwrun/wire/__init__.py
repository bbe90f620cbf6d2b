"""What goes between hosts: frames, sockets, proof of the token, control messages."""
