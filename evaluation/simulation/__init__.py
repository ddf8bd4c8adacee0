"""How often threshold rules would have been wrong, in worlds with known truth."""
