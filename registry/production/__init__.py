"""What is in production, and every way to change it."""
