"""Evaluation: thresholds, calibration, fairness and reports from any table of scores."""
