"""What the timings' errors leave open (`paretosim predict --uncertainty`)."""
