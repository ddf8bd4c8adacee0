"""The ledger at one moment as labelled, split tables."""
