"""A trained run at work: summaries of any dialogue, for the demo, `summarize` and `export`.

It may import `decoding`, `engines`, `cleaning` and what those may; no stage of dvc.yaml imports it.
Start at `summarizer`.
"""
