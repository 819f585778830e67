"""Speed compared with the alternatives, in one run: ``python -m benchmarks.speed --help``.

One file per part: :mod:`rollouts`, :mod:`updates`, :mod:`end_to_end`, :mod:`roofline` and
:mod:`environments`. Shared code is in :mod:`harness` (timing), :mod:`report` (table, JSON and
plot) and :mod:`models` (random models and prompts).
"""
