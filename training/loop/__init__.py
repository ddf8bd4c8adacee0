"""The training loop that all models share."""
