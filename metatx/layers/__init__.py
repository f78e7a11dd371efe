"""Modules and tensor functions that several tokenizers or heads share."""
