"""Raw samples and targets as tensors: which columns, which head, encoded once, cached, drawn, collated."""
