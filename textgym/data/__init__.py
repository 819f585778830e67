"""Text data: rows, files, messages, words, and observations."""
