"""Tiny runs of each objective on coloured pictures with captions."""

import torch

from metatx.pretraining.alignment import Tower
from metatx.pretraining.loop import Pretraining, PretrainingSettings
from metatx.pretraining.paired_data import PairedDataset
from tests.adapters.trained import scramble
from tests.pairs import colour_alignment, coloured, small_backbone

OTHERS = ("captioning", "matching", "masked_text", "masked_tokens")
QUICK = {"batch_size": 16, "epochs": 2, "lr": 3e-3, "precision": "fp32"}


def training(objectives, samples=None, *, frozen=False, out=None, start=None, **settings):
    """Run of these objectives, each with weight 1, beside the contrastive one."""
    samples = samples or coloured(16)
    backbone = start or small_backbone()
    alignment = colour_alignment(backbone if frozen else backbone.trainable_copy(), samples)
    weights = {"contrastive": 1.0, **dict.fromkeys(objectives, 1.0)}
    chosen = PretrainingSettings(**{**QUICK, **settings}, objectives=weights)
    return Pretraining(alignment, PairedDataset(alignment, samples, augment=True), chosen, None, None, out)


def gradients(objectives, **options):
    """Gradients of the first step by name, for objectives that are trained already; and the loss."""
    made = training(objectives, epochs=1, clip=1e9, **options)
    scramble(made.objectives)
    made.optimizer.step = made.optimizer.zero_grad = lambda: None
    (row,) = made.run(resume=False)
    names = {parameter: name for name, parameter in made.module.named_parameters()}
    return {names[parameter]: parameter.grad.clone() for parameter in made.trained}, row["train_loss"]


def state(made):
    return {name: value.clone() for name, value in made.module.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def record_tokens(monkeypatch):
    """List that gets each tower that is asked for tokens from now on, and the tokens, which take a gradient."""
    real = Tower.tokens
    entered = []

    def recorded(tower, batch):
        sequence = real(tower, batch)
        sequence = sequence.with_embeddings(sequence.embeddings.detach().requires_grad_())
        entered.append((tower, sequence.embeddings))
        return sequence

    monkeypatch.setattr(Tower, "tokens", recorded)
    return entered
