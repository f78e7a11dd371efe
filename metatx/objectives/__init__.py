"""Objectives of pretraining, one file each, found by name as tokenizers are."""
