"""What turns prompts into summaries: our decoding loop over transformers models, and vLLM.

It may import `models`, `layers`, `corpus` and `core`.
Start at `writer`, the interface, and `settings`, what a search can be told.
"""
