"""Training the built-in language model on the texts of the built-in tasks."""
