"""Servers: the page on which people give feedback (:mod:`textgym.serve.feedback`)."""
