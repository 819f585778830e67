"""Prompts: drawing, rendering and checking them."""
