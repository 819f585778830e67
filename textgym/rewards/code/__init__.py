"""Rewards for programs."""
