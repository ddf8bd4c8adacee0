"""Sums of scores and labels per category, language and score bin: the sufficient statistic of all metrics."""
