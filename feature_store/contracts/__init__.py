"""What one stage hands to another: paths, schemas, pinned inputs and digests."""
