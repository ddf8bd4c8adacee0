"""One post or many through a bundle."""
