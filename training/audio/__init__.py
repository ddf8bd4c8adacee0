"""The audio classifier."""
