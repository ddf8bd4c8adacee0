"""Deliveries, ledger, labels and snapshots: what is known of every post, and when."""
