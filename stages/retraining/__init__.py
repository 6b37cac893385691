"""Trains what `train` trained once more: on all rows but those of a fold, or on dev too; and uses the folds.

It may import `decoding`, `training` and what these may.
Start at `fold`.
"""
