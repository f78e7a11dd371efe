"""Pretraining of backbone and towers: contrastive objectives, teachers, paired data."""
