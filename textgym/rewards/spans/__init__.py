"""Rewards of tokens, learned from marked parts of texts and from edits."""
