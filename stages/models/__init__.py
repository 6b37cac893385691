"""Base models, tokenizers, prompts and adapter files: from the registry to what a stage loads.

It may import `layers`, `corpus` and `core`.
Start at `registry`, then `load` and `prompt`.
"""
