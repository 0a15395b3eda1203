"""Benchmarks: ratios, interleaved in one process, medians. They inform; nothing depends on their outcome.

``python -m benchmarks`` runs all of them and writes the tables into ``docs/benchmarks.md``.
"""
