"""Tables of scores: their format, checks and choice of rows."""
