"""Measurements behind the figures in the docs; `python -m benchmarks` runs them and writes RESULTS.md."""
