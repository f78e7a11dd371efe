"""Which samples an epoch draws where classes are to come equally often."""

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from metatx.encoding.encoded import EncodedDataset

__all__ = ["balanced_order", "class_numbers"]


def class_numbers(data: "EncodedDataset") -> np.ndarray:
    """The class number of each sample (N,), int64.

    Raises:
        ValueError: If the targets are no class numbers.
    """
    targets = [data.head.encode(target) for target in data.good.targets or ()]
    strange = next((target for target in targets if target.ndim or target.dtype != torch.int64), None)
    if strange is not None or not targets:
        raise ValueError(
            f"sampling is 'balanced', but the targets of the {data.head.name} head are no class numbers; "
            "choose sampling 'plain'."
        )
    return torch.stack(targets).numpy()


def balanced_order(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many sample numbers as there are samples, each class equally often (up to one), mixed by chance.

    No sample of a class comes again before all of its class have come.
    """
    present, members = np.unique(classes, return_inverse=True)
    each, rest = divmod(len(classes), len(present))
    more = set(rng.permutation(len(present))[:rest].tolist())
    drawn = []
    for code in range(len(present)):
        own, wanted = np.flatnonzero(members == code), each + (code in more)
        rounds = [rng.permutation(own) for _ in range(-(-wanted // len(own)))]
        drawn.append(np.concatenate([own[:0], *rounds])[:wanted])
    return rng.permutation(np.concatenate(drawn))
