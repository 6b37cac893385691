"""Conversations with a language model on a server: kept answers, refusals, limits, costs.

It may import `core`.
Start at `ask`.
"""
