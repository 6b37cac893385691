"""Dialogue tables and the texts in them: reading, turns and tags, personal data, near duplicates.

It may import `core`.
Start at `tables`, then `dialogue`.
"""
