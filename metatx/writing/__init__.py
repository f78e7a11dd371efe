"""Predictions and history as files: rows, boxes, masks, images."""
