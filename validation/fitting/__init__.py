"""Fitting a calibration to measured runs: what is observed, which parameters that identifies, and how sure they are."""
