"""Rewards and metrics that compare texts with references, or count."""
