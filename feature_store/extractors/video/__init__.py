"""Extractors that read video."""
