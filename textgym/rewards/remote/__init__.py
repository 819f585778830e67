"""Rewards that other machines compute."""
