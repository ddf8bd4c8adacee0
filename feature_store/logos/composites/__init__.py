"""Brand marks pasted onto photos: training data before any label exists."""
