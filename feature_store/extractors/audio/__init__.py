"""Extractors that read sound."""
