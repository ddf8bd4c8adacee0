"""Extractors that read pictures."""
