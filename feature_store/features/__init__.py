"""Features as tables and shards, read by training and by serving."""
