"""What decides on a post: calibration maps, thresholds, frozen categories and held reviewers."""
