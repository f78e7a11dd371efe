"""Samples of several inputs: a tokenizer of tokenizers, and the choice of columns for its inputs."""
