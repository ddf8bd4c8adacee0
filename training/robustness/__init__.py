"""How easily the trained models are fooled: attacks on texts and pictures, and what they do to every member."""
