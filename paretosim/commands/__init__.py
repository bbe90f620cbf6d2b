"""Subcommands of paretosim, one module each, imported when asked for."""
