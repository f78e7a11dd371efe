"""Encoding of raw samples and targets as tensors: choice of columns and head, cache, sampling, batches."""
