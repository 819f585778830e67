"""What the command line of every agent shares; no algorithm is in here."""
