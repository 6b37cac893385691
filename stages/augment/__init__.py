"""What makes a generated row fit to train on: quality, novelty, privacy, and how it is written.

It may import `corpus` and `core`.
Start at `quality_gate`.
"""
