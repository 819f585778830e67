"""Probes: tiny tasks whose best and whose random reward are known in closed form."""
