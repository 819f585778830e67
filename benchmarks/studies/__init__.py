"""Studies: one question each, answered by a script that writes its page."""
