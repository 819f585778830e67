"""Benchmark suites: agents on tasks over seeds, resumable."""
