"""Subcommands of validation, one module each, imported when asked for."""
