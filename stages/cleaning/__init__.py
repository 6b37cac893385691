"""Noise is found and mended here: the rules of data/rules, and a language model for typos.

It may import `corpus` and `core`.
Start at `batch`, which cleans a table; `rules` has what a rule is.
"""
