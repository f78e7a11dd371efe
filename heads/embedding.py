"""A vector per sample, near to those of the same identity: re-identification and retrieval."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.baselines.pipelines import scaled, worded
from metatx.baselines.retrieval import RandomVectors
from metatx.errors import SampleError, short
from metatx.head import Head
from metatx.layers.pooling import Pooling, pool_tokens, pooled_width
from metatx.sequence import TokenSequence
from metatx.values import plain_cell

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["EmbeddingHead"]

UNKNOWN = -1  # in place of the number of an identity without a proxy
COMPONENTS = 64  # principal components of words that the classical baseline compares
VARIANCE = 0.99  # share of the variance that the components of other features keep


class EmbeddingHead(Head):
    """Pooled tokens, a LayerNorm, a linear layer, unit length; trained with one proxy per identity.

    The loss is the cross-entropy of the cosines to all proxies over a temperature (normalised softmax, Zhai & Wu 2019,
    arXiv 1811.12649). It compares a sample with proxies alone, not with its batch, so it needs no mining, and batches
    of any size, on any number of processes, give the same.

    Identities (texts or whole numbers) that training did not know are welcome afterwards: they are measured by
    retrieval within their split, and take no part in the loss.

    Args:
        dim: Width of the backbone.
        size: Length of the vectors.
        pooling: ``"cls"``, ``"mean"`` of the tokens, ``"both"`` side by side, or ``"attention"``: the attention pool of
            the backbone's weights, frozen, where they have one.
        layers: Number of the backbone's last blocks that are read, side by side.
        dropout: Dropout of the pooled features, 0 to 1.
        temperature: Number that cosines are divided by in the loss; a smaller one tells identities apart more sharply.

    Attributes:
        identities: Identities of the training split, in the order of the proxies; learned by ``fit``.
    """

    primary_metric = "map"
    tunable = {"dropout": (0.0, 0.1, 0.3), "layers": (1, 4), "temperature": (0.02, 0.05, 0.1)}
    pool_options = ("pooling", "layers")

    def __init__(
        self,
        dim: int,
        size: int = 128,
        pooling: Pooling = "both",
        layers: int = 1,
        dropout: float = 0.0,
        temperature: float = 0.05,
    ) -> None:
        super().__init__(dim)
        if size < 1 or temperature <= 0:
            raise ValueError(f"size is {size} and temperature {temperature:g}; both must be above 0.")
        self.size = size
        self.pooling: Pooling = pooling
        self.layers = layers
        self.temperature = temperature
        width = pooled_width(dim, pooling, layers)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, size)
        self.identities: list[Any] = []

    def build(self, identities: list[Any]) -> None:
        """Draw a proxy for each identity."""
        self.identities = identities
        self.index = {identity: i for i, identity in enumerate(identities)}
        self.proxies = nn.Parameter(F.normalize(torch.randn(len(identities), self.size), dim=1))

    def split(
        self, table: "Dataset", target: str | None, tokenizer: "Tokenizer", fraction: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in two parts that share no identity, the second about ``fraction`` of them.

        Raises:
            ValueError: If there are fewer than two identities.
        """
        names, members, counts = np.unique(
            np.asarray(table[target][:]).astype(str), return_inverse=True, return_counts=True
        )
        if len(names) < 2:
            raise ValueError(f"All {len(members)} samples are of '{names[0]}'; two identities or more can be split.")
        order = np.random.default_rng(seed).permutation(len(names))
        filled = counts[order].cumsum()
        cut = int(np.abs(filled[:-1] - fraction * len(members)).argmin()) + 1
        held = np.isin(members, order[:cut])
        return np.flatnonzero(~held), np.flatnonzero(held)

    def fit(self, targets: Sequence[Any]) -> dict[str, Any]:
        """``identities``, sorted. Raises ValueError for a missing one, fewer than two, or none that repeats."""
        found = [plain_cell(target) for target in targets]
        missing = sum(identity is None for identity in found)
        if missing:
            raise ValueError(f"{missing} of {len(found)} samples have no identity; fill them in or leave them out.")
        strange = next((identity for identity in found if not isinstance(identity, str | int)), None)
        if strange is not None:
            raise ValueError(f"An identity is a {type(strange).__name__}; identities are text or whole numbers.")
        identities = sorted(set(found), key=lambda identity: (isinstance(identity, str), identity))
        if len(identities) < 2:
            raise ValueError(f"There are {len(identities)} identities in {len(found)} samples; two or more are needed.")
        if len(identities) == len(found):
            raise ValueError(f"All {len(found)} samples are of different identities; some must have two or more.")
        return {"identities": identities}

    def encode(self, target: Any) -> Tensor:
        """Number of an identity, int64 (); one unknown to training has a number of its own beyond the proxies'."""
        identity = plain_cell(target)
        if not isinstance(identity, str | int):
            raise SampleError(f"identity is {short(target)}; expected text or a whole number")
        if identity in self.index:
            return torch.tensor(self.index[identity])
        # By its name alone, so that every process and every run counts it alike.
        digest = hashlib.blake2b(repr(identity).encode(), digest_size=7).digest()
        return torch.tensor(len(self.identities) + int.from_bytes(digest, "big"))

    def pool(self, sequence: TokenSequence) -> Tensor:
        """Features (B, width), as ``pooling`` says."""
        return pool_tokens(sequence, self.pooling)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, width) to unit vectors (B, size)."""
        vectors = F.normalize(self.output(self.dropout(self.norm(pooled))).float(), dim=1)
        # The loss alone reads the proxies, but several processes share gradients of what forward has used; also where a
        # last batch of fewer samples than processes finds the head in evaluation mode.
        return vectors + 0.0 * self.proxies.sum() if torch.is_grad_enabled() else vectors

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean loss of vectors (B, size) and identity numbers (B,), to which unknown identities add nothing."""
        cosines = output @ F.normalize(self.proxies, dim=1).T
        wanted = target.masked_fill(target >= len(self.proxies), UNKNOWN)
        losses = F.cross_entropy(cosines / self.temperature, wanted, ignore_index=UNKNOWN, reduction="sum")
        return losses / len(target)

    def decode(self, output: Tensor) -> np.ndarray:
        """Vectors of unit length (B, size), float32."""
        vectors: np.ndarray = output.float().cpu().numpy()
        return vectors

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """``embedding`` (B, size), of unit length."""
        return {"embedding": output}

    def export_facts(self) -> dict[str, Any]:
        """None: the identities of training say nothing about a vector."""
        return {}

    def card_note(self) -> str:
        """One sentence that says what the vectors are for."""
        return f"Predictions are vectors of {self.size} numbers and length 1; compare them by cosine."

    def metrics(self) -> "dict[str, Metric]":
        """Mean average precision, recall at 1 and at 5: each sample asks for the others of its identity in a split."""
        from metatx.metrics.retrieval import Retrieval

        return {"map": Retrieval("map"), "recall@1": Retrieval("recall", 1), "recall@5": Retrieval("recall", 5)}

    def trivial(self) -> tuple[str, Any]:
        """Estimator that answers with random vectors, of a fixed seed."""
        return "random ranking", RandomVectors(self.size)

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Principal components of features or words, and linear discriminants of features, compared by cosine."""
        from sklearn.decomposition import PCA, TruncatedSVD
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.pipeline import make_pipeline

        if kind == "words":
            return {"TF-IDF, components, cosine": worded(TruncatedSVD(COMPONENTS, random_state=0))}
        discriminants = make_pipeline(PCA(VARIANCE), LinearDiscriminantAnalysis())
        return {
            "principal components, cosine": scaled(PCA(VARIANCE)),
            "linear discriminants, cosine": scaled(discriminants),
        }

    def baseline_predict(self, estimator: Any, features: Any) -> Tensor:
        """First components that an estimator gives, as vectors (B, size), zeros where it has fewer."""
        vectors = torch.as_tensor(np.asarray(estimator.transform(features)), dtype=torch.float32)[:, : self.size]
        return F.normalize(F.pad(vectors, (0, self.size - vectors.shape[1])), dim=1)
