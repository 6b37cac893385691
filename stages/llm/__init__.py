"""Conversations with a server that speaks the OpenAI protocol: kept answers, limits, costs.

It may import `core`.
Start at `ask`.
"""
