"""The logo detector."""
