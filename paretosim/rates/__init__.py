"""Many links: every split as a function of rate and delay, sweeps, break-even rates (`paretosim map`)."""
