"""Who approved what: the log of answers, and what it vouches for."""
