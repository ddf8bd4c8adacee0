"""A synthetic platform with known truth: posts, reviewers, decisions, pictures, sounds and logos."""
