"""Sweeps: which cells there are, how each is measured, and what is shown of them."""
