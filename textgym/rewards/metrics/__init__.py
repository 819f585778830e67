"""Rewards and metrics that compare texts, or count what is in them."""
