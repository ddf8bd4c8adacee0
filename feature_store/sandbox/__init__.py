"""Strangers' files are decoded in worker processes that may read nothing else and reach nobody."""
