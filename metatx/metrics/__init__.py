"""Measures of predictions: of labels, forecasts and embeddings, over batches and processes."""
