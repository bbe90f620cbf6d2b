"""paretosim: where to split a neural network over devices, predicted in milliseconds."""

__version__ = "0.1.0"
