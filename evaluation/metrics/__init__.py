"""Metrics per category and language, fairness and paired comparison."""
