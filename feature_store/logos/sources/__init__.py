"""Logo datasets of other formats and of reviewers' outcomes."""
