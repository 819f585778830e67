"""Speed, side by side with the alternatives, in one run: ``python -m benchmarks.speed --help``.

One file a part: :mod:`rollouts`, :mod:`updates`, :mod:`end_to_end`, :mod:`roofline` and
:mod:`environments`. What they share is in :mod:`harness` (timing), :mod:`report` (table, JSON and
plot) and :mod:`models` (random models and prompts).
"""
