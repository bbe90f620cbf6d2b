"""Several models and links beside each other (`paretosim front`)."""
