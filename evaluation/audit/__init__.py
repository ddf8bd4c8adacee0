"""Drawing posts for people to judge, with known probabilities."""
