"""ROUGE at word and morpheme level, intervals, baselines and checks of predictions.

It may import `corpus` and `core`.
Start at `rouge`.
"""
