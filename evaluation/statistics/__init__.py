"""Interval estimates, tests and rank statistics, of numbers alone."""
