"""Runs from data to a saved task with its numbers, reports of them, and comparisons of backbones."""
