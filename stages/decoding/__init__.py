"""How a run decodes: batches that resume, choosing among candidates, mending what was written.

It may import `engines`, `scoring` and what those may.
Start at `predict_tables`, which writes a run's tables, and at `workers`, which spread that over GPUs.
"""
