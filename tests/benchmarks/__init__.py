"""The performance suite: `make bench`. Figures are ratios of two things timed in turn in one run, or seconds."""
