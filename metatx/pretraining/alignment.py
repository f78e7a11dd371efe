"""Alignment: several modalities in one space of unit vectors, through one backbone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.loading import backbone_folder, load_backbone, save_backbone
from metatx.backbone.vit import Backbone
from metatx.disk.weight_files import apart, file_sha256, read_tensors
from metatx.encoding.collate import collate, to_device
from metatx.encoding.head_choice import takes_stem
from metatx.errors import SampleError
from metatx.files import folder_written_whole
from metatx.layers.input_norm import input_norm
from metatx.layers.unregistered import Unregistered
from metatx.pretraining.contrastive import ContrastiveLoss
from metatx.registry import all_options, create, lookup, unknown
from metatx.sequence import TokenSequence, as_sequence
from metatx.tokenizer import Tokenizer

__all__ = ["Alignment"]

CONFIG, WEIGHTS = "alignment.json", "alignment.safetensors"  # beside the backbone's own


class Tower(nn.Module):
    """One modality's way into the space: its tokenizer, and a linear map behind the backbone."""

    def __init__(self, backbone: Backbone, tokenizer: Tokenizer, size: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.norm = input_norm(backbone, tokenizer)
        self.proj = nn.Linear(backbone.dim, size, bias=False)
        nn.init.normal_(self.proj.weight, std=backbone.dim**-0.5)

    def tokens(self, batch: dict[str, Any]) -> TokenSequence:
        """Collated tensors to the sequences that enter the backbone."""
        sequence = as_sequence(self.tokenizer(batch))
        return sequence.with_embeddings(self.norm(sequence.embeddings))

    def vectors(self, sequence: TokenSequence) -> Tensor:
        """Sequences that left the backbone to unit vectors (B, E), float32: of CLS, or of the mean without one."""
        pooled = sequence.cls() if sequence.prefix else sequence.mean()
        return F.normalize(self.proj(pooled).float(), dim=1)


class Alignment(nn.Module):
    """Modalities whose samples are compared by the cosine of their vectors (CLIP, Radford et al. 2021).

    The backbone is no submodule: it is shared, or, where it is a ``trainable_copy`` copy, trained beside.

    Args:
        backbone: What all modalities pass through.
        size: Width of the vectors, E.
        loss: By which pairs are compared, see ``ContrastiveLoss``.
    """

    towers: nn.ModuleDict

    def __init__(self, backbone: Backbone, size: int = 192, loss: Literal["softmax", "sigmoid"] = "softmax") -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size is {size}; vectors need at least one number.")
        self._backbone = Unregistered(backbone)
        self.size = size
        self.contrast = ContrastiveLoss(loss)
        self.towers = nn.ModuleDict()

    @property
    def backbone(self) -> Backbone:
        """What all modalities pass through."""
        return self._backbone.module

    def add(
        self, modality: str, samples: Sequence[Any], options: dict[str, Any] | None = None, *, seed: int = 0
    ) -> Self:
        """Give a modality its tower; its tokenizer learns its statistics from ``samples`` of the training split.

        Raises:
            ValueError: If it is unknown, or has a tower already.
        """
        if modality in self.towers:
            raise ValueError(f"{modality} is aligned already; align another modality with it.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokenizer = self._tokenizer(modality, options or {})
            tokenizer.fit(samples)
            self.towers[modality] = Tower(self.backbone, tokenizer, self.size).to(self.backbone.device)
        return self

    def set_options(self, modality: str, options: dict[str, Any]) -> Self:
        """Change options of an aligned modality's tokenizer, such as its augmentation; its weights stay.

        Raises:
            ValueError: If one is unknown, or the weights do not fit it.
        """
        tower = self.tower(modality)
        tokenizer = self._tokenizer(modality, {**all_options(tower.tokenizer), **options})
        try:
            tokenizer.load_state_dict(tower.tokenizer.state_dict())
        except RuntimeError as error:
            raise ValueError(f"The weights of {modality} do not fit {options}: {error}") from None
        tower.tokenizer = tokenizer.requires_grad_(next(tower.parameters()).requires_grad).to(self.backbone.device)
        return self

    def _tokenizer(self, modality: str, options: dict[str, Any]) -> Tokenizer:
        stem = {"stem": self.backbone.stem} if takes_stem(lookup("tokenizers", modality)) else {}
        tokenizer: Tokenizer = create("tokenizers", modality, self.backbone.dim, **options, **stem)
        return tokenizer

    def tower(self, modality: str) -> Tower:
        """The tower of a modality. Raises ValueError if it has none; lists those that have."""
        if modality not in self.towers:
            raise ValueError(unknown("aligned modality", modality, list(self.towers)))
        tower = self.towers[modality]
        assert isinstance(tower, Tower)
        return tower

    def forward(self, modality: str, batch: dict[str, Any]) -> Tensor:
        """Collated tensors of one modality to unit vectors (B, E)."""
        tower = self.tower(modality)
        return tower.vectors(self.backbone(tower.tokens(batch)))

    @torch.no_grad()
    def embed(self, modality: str, samples: Sequence[Any], batch_size: int = 128) -> np.ndarray:
        """Raw samples to unit vectors (B, E), float32: the product of two is their cosine.

        Raises:
            SampleError: If one cannot be used; names which.
            ValueError: If there is none, or the modality is not aligned.
        """
        tower = self.tower(modality).eval()
        if not len(samples):
            raise ValueError("There are no samples to embed.")
        encoded, parts = [], []
        for index, sample in enumerate(samples):
            try:
                encoded.append(tower.tokenizer.encode(sample))
            except SampleError as error:
                raise SampleError(f"sample {index + 1}: {error}") from None
            if len(encoded) == batch_size or index == len(samples) - 1:
                parts.append(self(modality, to_device(collate(encoded), self.backbone.device)).cpu().numpy())
                encoded = []
        return np.concatenate(parts)

    # On disk

    def save_pretrained(
        self, folder: str | Path, *, about: str, card: str = "", dtype: torch.dtype = torch.float32
    ) -> Path:
        """Write backbone and towers to a folder that ``load_backbone`` and ``from_pretrained`` read; whole or not.

        Args:
            folder: Replaced if it is there.
            about: Where the weights come from, in a line.
            card: The folder's README.md.
            dtype: Of the stored weights; they are read as float32.

        Raises:
            OSError: If it cannot be written; nothing is changed then.
        """
        from safetensors.torch import save_file

        towers = {modality: {"options": all_options(self.tower(modality).tokenizer)} for modality in self.towers}
        config: dict[str, Any] = {"size": self.size, "loss": self.contrast.loss, "towers": towers}
        weights = {
            name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu()
            for name, tensor in self.state_dict().items()
        }
        with folder_written_whole(Path(folder)) as temporary:
            save_backbone(self.backbone, temporary, about=about, dtype=dtype)
            save_file(apart(weights), temporary / WEIGHTS)
            (temporary / WEIGHTS).chmod(0o644)
            config["sha256"] = file_sha256(temporary / WEIGHTS)
            (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            if card:
                (temporary / "README.md").write_text(card)
        return Path(folder)

    @classmethod
    def on(cls, backbone: Backbone, size: int = 192, loss: Literal["softmax", "sigmoid"] = "softmax") -> Self:
        """The towers that came with a backbone's weights; none, of this size, where it has none."""
        folder = backbone_folder(backbone.spec)
        if backbone.pretrained and folder is not None and (folder / CONFIG).is_file():
            return cls.from_pretrained(folder, backbone)
        return cls(backbone, size, loss)

    @classmethod
    def from_pretrained(cls, spec: str | Path, backbone: Backbone | None = None) -> Self:
        """Read what ``save_pretrained`` wrote.

        Args:
            spec: A folder, or ``nano``.
            backbone: The same one, already in memory; loaded where it is not given.

        Raises:
            ValueError: If there are no towers, they are damaged, or they do not fit the backbone.
        """
        folder = backbone_folder(str(spec))
        if folder is None or not (folder / CONFIG).is_file():
            raise ValueError(f"{spec} holds no aligned modalities: there is no {CONFIG}.")
        frozen = load_backbone(str(spec)) if backbone is None else backbone
        try:
            content = json.loads((folder / CONFIG).read_text())
            alignment = cls(frozen, content["size"], content["loss"])
            for modality, tower in content["towers"].items():
                tokenizer = alignment._tokenizer(modality, tower["options"])
                alignment.towers[modality] = Tower(frozen, tokenizer, alignment.size)
            alignment.load_state_dict(read_tensors(folder / WEIGHTS, sha256=content["sha256"]))
        except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"{folder} is damaged: {str(error).splitlines()[0]}") from None
        return alignment.to(frozen.device).eval()
