"""Registration, lineage and serving of models: the only package that knows all the others."""
