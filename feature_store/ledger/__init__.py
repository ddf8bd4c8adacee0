"""The ledger: posts, decisions and outcomes of two times, each change one commit."""
