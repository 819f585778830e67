"""Measurements of textgym; every published figure comes from a script in this folder."""
