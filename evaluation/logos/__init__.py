"""The logo detector judged: matching, precision and exposure."""
