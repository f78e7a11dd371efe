"""HTTP server: many tasks of any modality on one backbone, in batches that mix them."""
