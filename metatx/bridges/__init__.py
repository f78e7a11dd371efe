"""Bridges, one file each, found by name as tokenizers are."""
