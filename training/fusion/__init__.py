"""The fusion layer: one score a category from all models."""
