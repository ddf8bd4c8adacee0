"""What decides on a post: calibration maps, thresholds and frozen categories."""
