"""Several devices: exact fronts over cuts, and over order and choice of devices (`paretosim plan`)."""
