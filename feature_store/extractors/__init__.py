"""One module an extractor: bytes of one content in, one row of features out."""
