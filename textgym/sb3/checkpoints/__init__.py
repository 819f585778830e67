"""Saving, loading and resuming a training with Stable-Baselines3."""
