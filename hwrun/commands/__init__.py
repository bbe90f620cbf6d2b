"""Subcommands of hwrun, one module each, imported when asked for."""
