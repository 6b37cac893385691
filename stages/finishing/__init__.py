"""The last points before a deadline: a sweep of settings, its winner, and the record beside a submission.

It may import `scoring`, `corpus` and `core`.
Start at `winner`; `stages/sweep.py` and `stages/submit.py` are what calls it.
"""
