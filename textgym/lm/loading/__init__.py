"""Checkpoints: finding their files, and making a complete model of them."""
