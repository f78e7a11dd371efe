"""Random weights of the control: a backbone that is neither pretrained nor trained."""

import math

import torch
from torch import Tensor, nn

__all__ = ["random_weights"]

SEED = 0
# Both were chosen with nano by logistic regression on CLS and mean: accuracy 0.93 on scikit-learn's digits and 0.35 on
# 1,000 images of CIFAR-10. With the usual initial weights (all 0.02) blocks hardly mix tokens: 0.55 and 0.28.
EMBEDDING = 0.5  # standard deviation of prefix tokens and positions; that of patches and of words is about 1
BRANCH = 0.5  # scale of the residual branches' last layers
POSITIONS = ("cls_token", "positions", "position_embeddings.weight", "types")
LAST = (*("attn.proj.weight", "mlp.fc2.weight"), *("o_proj.weight", "down_proj.weight"), "output.dense.weight")


def random_weights(network: nn.Module, seed: int = SEED) -> dict[str, Tensor]:
    """Draw a value for every parameter of a network, always the same; the global generator is not used.

    Matrices have standard deviation 1 / sqrt(number of inputs), so that layers keep the scale of their input. Words
    have 1, and so have a language model's logits of the next word, by the scale of its last norm.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: torch.Size) -> Tensor:
        if name.endswith("bias"):
            return torch.zeros(shape)
        if len(shape) == 1:  # scales of norms and of layer scale
            quiet = name == "norm.weight" and getattr(network, "writes", False)
            return torch.full(shape, shape[0] ** -0.5) if quiet else torch.ones(shape)
        values = torch.randn(shape, generator=generator)
        if name.endswith(POSITIONS):
            return values * EMBEDDING
        if name.endswith(("vocabulary.embedding.weight", "lm_head.weight")):
            return values
        scale = BRANCH if name.endswith(LAST) else 1.0
        return values * scale / math.sqrt(shape[1:].numel())

    return {name: draw(name, parameter.shape) for name, parameter in network.named_parameters()}
