"""Calibration, and thresholds with their certificates."""
