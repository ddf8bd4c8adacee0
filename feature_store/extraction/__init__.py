"""Running the extractors over all contents of the ledger."""
