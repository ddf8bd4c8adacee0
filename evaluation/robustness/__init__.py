"""How much of what the model finds is lost when somebody changes posts so that it overlooks them."""
