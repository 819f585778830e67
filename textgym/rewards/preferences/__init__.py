"""Rewards learned from human preferences."""
