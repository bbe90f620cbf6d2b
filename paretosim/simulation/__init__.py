"""One split batch by batch, over links that change (`paretosim simulate`)."""
