"""Trains once more: on all rows but those of a fold, on dev too, or on scored candidates, which the folds write.

It may import `decoding`, `training` and what these may.
Start at `fold`.
"""
