"""Evaluation: runs from data to a saved task, reports of their numbers, and comparisons of backbones."""
