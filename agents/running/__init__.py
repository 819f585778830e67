"""Command line, evaluation, logs and checkpoints, shared by all agents. No algorithm is in here."""
