"""All published figures, measured again by one resumable command: ``python -m benchmarks results``.

A study (:mod:`benchmarks.campaign.study`) is a list of jobs and a writer of pages. The studies are
in ``benchmarks/studies/``; :mod:`benchmarks.campaign.registry` lists them.
"""
