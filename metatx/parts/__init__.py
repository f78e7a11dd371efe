"""What several tokenizers or heads are made of."""
