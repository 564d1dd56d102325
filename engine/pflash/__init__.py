"""PFlash (SPEC C): which lines of the repository a prompt is worth, scored by attention.

Whole segments are scored by the first layers of a model: what the end of the query attends to is
kept, the rest does not exist for the target. Lossy by design; DFlash, not this, is exact.
"""
