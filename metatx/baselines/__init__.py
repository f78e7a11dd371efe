"""Trivial and classical models, on the same split and by the same measures as the task."""
