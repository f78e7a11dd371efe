"""The server: many tasks of any modality behind HTTP, on one backbone, in batches that mix them."""
