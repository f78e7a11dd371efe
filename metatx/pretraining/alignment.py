"""Alignment: several modalities in one space of unit vectors, through one backbone."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.base import Backbone
from metatx.backbone.loading import backbone_folder, load_backbone, save_backbone
from metatx.disk.weight_files import file_sha256, read_tensors, tensors_sha256, unshared
from metatx.encoding.collate import collate, to_device
from metatx.encoding.head_choice import build_tokenizer
from metatx.errors import SampleError
from metatx.files import folder_written_whole
from metatx.layers.input_norm import input_norm
from metatx.layers.unregistered import Unregistered
from metatx.pretraining.contrastive import ContrastiveLoss
from metatx.registry import all_options, lookup, option_names, unknown
from metatx.sequence import TokenSequence, as_sequence
from metatx.storage.config import upgraded
from metatx.tokenizer import Tokenizer

__all__ = ["Alignment"]

CONFIG = "alignment.json"  # both files lie beside those of the backbone
WEIGHTS = "alignment.safetensors"


class Tower(nn.Module):
    """Tokenizer of one modality, the norm behind it, and the linear map from the backbone's output to the space."""

    def __init__(self, backbone: Backbone, tokenizer: Tokenizer, size: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.norm = input_norm(backbone, tokenizer)
        self.proj = nn.Linear(backbone.dim, size, bias=False)
        nn.init.normal_(self.proj.weight, std=backbone.dim**-0.5)

    def tokens(self, batch: dict[str, Any]) -> TokenSequence:
        """Map collated tensors to the sequences that enter the backbone."""
        sequence = as_sequence(self.tokenizer(batch))
        return sequence.with_embeddings(self.norm(sequence.embeddings))

    def vectors(self, sequence: TokenSequence) -> Tensor:
        """Map the output of the backbone to unit vectors (B, E), float32: of CLS, or of the mean without CLS."""
        pooled = sequence.cls() if sequence.has_cls else sequence.mean()
        return F.normalize(self.proj(pooled).float(), dim=1)


class Alignment(nn.Module):
    """Modalities whose samples are compared by the cosine of their vectors (CLIP, Radford et al. 2021).

    The backbone is no submodule, so it is neither among ``parameters()`` nor in ``state_dict()``: it is shared, or, if
    it is a ``trainable_copy``, trained as a module of its own.

    Args:
        backbone: Backbone that all modalities pass through.
        size: Width of the vectors, E.
        loss: Loss of pairs, ``"softmax"`` or ``"sigmoid"``, see ``ContrastiveLoss``.

    Raises:
        ValueError: If ``size`` is less than 1.

    Example:
        >>> alignment = metatx.Alignment.from_pretrained("nano")
        >>> sorted(alignment.towers)
        ['image', 'text']
        >>> alignment.embed("text", ["a dog", "a plane"]).shape
        (2, 192)
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
        """Backbone that all modalities pass through."""
        return self._backbone.module

    def add(
        self, modality: str, samples: Sequence[Any], options: dict[str, Any] | None = None, *, seed: int = 0
    ) -> Self:
        """Add a tower for a modality.

        Args:
            modality: Name of the tokenizer.
            samples: Raw samples of the training split, from which the tokenizer learns its statistics.
            options: Options of the tokenizer; by default none.
            seed: Seed of the initial weights.

        Raises:
            ValueError: If the modality is unknown, or has a tower already.
        """
        if modality in self.towers:
            raise ValueError(f"{modality} is aligned already; align another modality with it.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokenizer = build_tokenizer(modality, self.backbone, options or {})
            tokenizer.learn(samples)
            self.towers[modality] = Tower(self.backbone, tokenizer, self.size).to(self.backbone.device)
        return self

    def set_options(self, modality: str, options: dict[str, Any]) -> Self:
        """Change options of the tokenizer of an aligned modality, such as its augmentation; its weights stay.

        Raises:
            ValueError: If an option is unknown, or the weights do not fit the new options.
        """
        tower = self.tower(modality)
        known = all_options(tower.tokenizer)
        tokenizer = build_tokenizer(modality, self.backbone, {**known, **options}).restore(tower.tokenizer.fitted)
        try:
            tokenizer.load_state_dict(tower.tokenizer.state_dict())
        except RuntimeError as error:
            raise ValueError(f"The weights of {modality} do not fit {options}: {error}") from None
        tower.tokenizer = tokenizer.requires_grad_(next(tower.parameters()).requires_grad).to(self.backbone.device)
        return self

    def tower(self, modality: str) -> Tower:
        """Return the tower of a modality. Raises ValueError, which lists the aligned modalities, if it has none."""
        if modality not in self.towers:
            raise ValueError(unknown("aligned modality", modality, list(self.towers)))
        tower = self.towers[modality]
        assert isinstance(tower, Tower)
        return tower

    def fingerprint(self, modality: str) -> str:
        """SHA-256 (hex) of all that the vectors of a modality depend on: the backbone, and the tower as it is read.

        It is computed at each call. Further modalities do not change it.

        Raises:
            ValueError: If the modality is not aligned.
        """
        tower = self.tower(modality)
        tokenizer = tower.tokenizer
        facts = [self.backbone.fingerprint, tokenizer.name, all_options(tokenizer), dict(tokenizer.fitted)]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(tensors_sha256(tower.state_dict()).encode())
        return digest.hexdigest()

    def forward(self, modality: str, batch: dict[str, Any]) -> Tensor:
        """Map collated tensors of one modality to unit vectors (B, E)."""
        tower = self.tower(modality)
        return tower.vectors(self.backbone(tower.tokens(batch)))

    @torch.no_grad()
    def embed(self, modality: str, samples: Sequence[Any], batch_size: int = 128) -> np.ndarray:
        """Map raw samples to unit vectors (B, E), float32; the product of two vectors is their cosine.

        Raises:
            SampleError: If a sample cannot be used; gives its number, counted from 1.
            ValueError: If there are no samples, or the modality is not aligned.
        """
        tower = self.tower(modality).eval()
        if not len(samples):
            raise ValueError("There are no samples to embed.")
        encoded = []
        parts = []
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
        """Write backbone and towers to a folder that ``load_backbone`` and ``from_pretrained`` read.

        Args:
            folder: Folder to write; one that is there is replaced, as a whole or not at all.
            about: One line on the origin of the weights.
            card: Text of the folder's README.md; by default none is written.
            dtype: Type of the stored weights; they are read as float32.

        Raises:
            OSError: If the folder cannot be written; nothing is changed then.
        """
        from safetensors.torch import save_file

        tokenizers = {modality: self.tower(modality).tokenizer for modality in self.towers}
        towers = {
            modality: {"options": all_options(tokenizer), "fitted": dict(tokenizer.fitted)}
            for modality, tokenizer in tokenizers.items()
        }
        config: dict[str, Any] = {"size": self.size, "loss": self.contrast.loss, "towers": towers}
        weights = {
            name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu()
            for name, tensor in self.state_dict().items()
        }
        with folder_written_whole(Path(folder)) as temporary:
            save_backbone(self.backbone, temporary, about=about, dtype=dtype)
            save_file(unshared(weights), temporary / WEIGHTS)
            (temporary / WEIGHTS).chmod(0o644)
            config["sha256"] = file_sha256(temporary / WEIGHTS)
            (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            if card:
                (temporary / "README.md").write_text(card)
        return Path(folder)

    @classmethod
    def on(cls, backbone: Backbone, size: int = 192, loss: Literal["softmax", "sigmoid"] = "softmax") -> Self:
        """Return the alignment that came with a backbone's weights, or else a new one without towers.

        Args:
            backbone: Backbone of the alignment.
            size: Width of the vectors of a new alignment.
            loss: Loss of a new alignment.
        """
        folder = backbone_folder(backbone.spec)
        if backbone.pretrained and folder is not None and (folder / CONFIG).is_file():
            return cls.from_pretrained(folder, backbone)
        return cls(backbone, size, loss)

    @classmethod
    def from_pretrained(cls, spec: str | Path, backbone: Backbone | None = None) -> Self:
        """Read an alignment that ``save_pretrained`` wrote.

        Args:
            spec: Folder, or ``nano``.
            backbone: The backbone of that folder, if it is in memory already; by default it is loaded.

        Raises:
            ValueError: If the folder holds no towers, they are damaged, or they do not fit the backbone.
        """
        folder = backbone_folder(str(spec))
        if folder is None or not (folder / CONFIG).is_file():
            raise ValueError(f"{spec} holds no aligned modalities: there is no {CONFIG}.")
        frozen = load_backbone(str(spec)) if backbone is None else backbone
        try:
            content = json.loads((folder / CONFIG).read_text())
            alignment = cls(frozen, content["size"], content["loss"])
            for modality, tower in content["towers"].items():
                part = upgraded(tower, option_names(lookup("tokenizers", modality)))
                tokenizer = build_tokenizer(modality, frozen, part["options"]).restore(part["fitted"])
                alignment.towers[modality] = Tower(frozen, tokenizer, alignment.size)
            alignment.load_state_dict(read_tensors(folder / WEIGHTS, sha256=content["sha256"]))
        except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"{folder} is damaged: {str(error).splitlines()[0]}") from None
        return alignment.to(frozen.device).eval()
