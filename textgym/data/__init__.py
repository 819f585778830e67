"""Rows of text data: files, words, messages, and the arrays that a policy sees."""
