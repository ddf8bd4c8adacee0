"""The character n-gram classifier of texts."""
