"""A delivery's way into the ledger: read, convert, check, resolve, apply."""
