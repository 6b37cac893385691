"""Noise is found and mended here: the rules of data/rules, and a language model for typos.

It may import `corpus` and `core`.
Start at `batch`, which cleans a table; a new rule is a row of data/rules, a new step one of `rules` or `speaker_tags`.
"""
