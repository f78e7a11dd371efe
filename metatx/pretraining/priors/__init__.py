"""Priors that ship, one file a modality; each has a function ``draw(seed, size)``, see ``metatx.pretraining.prior``."""
