"""The weekly report on what is in production."""
