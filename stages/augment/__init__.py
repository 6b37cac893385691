"""Rows that a language model writes, and what makes one fit to train on: quality, novelty, privacy.

It may import `llm`, `corpus` and `core`.
Start at `generate`.
"""
