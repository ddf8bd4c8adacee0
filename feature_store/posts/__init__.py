"""Facts about a post that need no weights: text, author's history, languages of its pictures."""
