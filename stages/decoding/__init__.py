"""How a run decodes: batches that resume, choosing among candidates, mending what was written.

It may import `engines`, `scoring` and what those may.
Start at `predict_all`.
"""
