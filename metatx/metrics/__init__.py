"""Measures of predictions (labels, forecasts, embeddings) over batches and processes."""
