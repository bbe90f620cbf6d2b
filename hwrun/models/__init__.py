"""Networks as chains of blocks: built, traced, cut into stages, described and timed."""
