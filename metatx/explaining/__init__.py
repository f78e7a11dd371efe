"""Explanations: which parts of a sample made an answer, and whether to believe it."""
