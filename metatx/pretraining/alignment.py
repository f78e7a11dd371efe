"""Alignment: several modalities in one space of unit vectors, through one backbone."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from metatx.backbone.base import Backbone, check_backbone
from metatx.backbone.loading import backbone_folder, load_backbone, save_backbone
from metatx.backbone.names import absolute_name
from metatx.disk.weight_files import file_sha256, read_tensors, unshared
from metatx.encoding.collate import collate, to_device
from metatx.encoding.head_choice import build_tokenizer
from metatx.errors import SampleError
from metatx.files import folder_written_whole
from metatx.layers.unregistered import Unregistered
from metatx.pretraining.anchors import EncoderError, check_encoder, encoder_of, kind_name, known_by
from metatx.pretraining.contrastive import ContrastiveLoss
from metatx.pretraining.encoders import FrozenEncoder
from metatx.pretraining.towers import ExternalTower, Pooling, Tower
from metatx.registry import all_options, lookup, option_names, unknown
from metatx.storage.config import upgraded
from metatx.tokenizer import Tokenizer

__all__ = ["Alignment", "Tower"]

CONFIG = "alignment.json"  # both files lie beside those of the backbone
WEIGHTS = "alignment.safetensors"
ENCODER = "encoder"  # key of an anchor of another model


class Alignment(nn.Module):
    """Modalities whose samples are compared by the cosine of their vectors (CLIP, Radford et al. 2021).

    The backbone is no submodule, so it is neither among ``parameters()`` nor in ``state_dict()``: it is shared, or, if
    it is a ``trainable_copy``, trained as a module of its own.

    Args:
        backbone: Backbone that all modalities pass through.
        size: Width of the vectors, E.
        loss: Loss of pairs, ``"softmax"`` or ``"sigmoid"``, see ``ContrastiveLoss``.

    Attributes:
        spec: Folder (absolute), or ``nano``, that it was read from or saved in last; None for one that is in memory
            alone.

    Raises:
        TypeError: If ``backbone`` is no backbone.
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
        check_backbone(backbone)
        if size < 1:
            raise ValueError(f"size is {size}; vectors need at least one number.")
        self._backbone = Unregistered(backbone)
        self.size = size
        self.spec: str | None = None
        self.contrast = ContrastiveLoss(loss)
        self.towers = nn.ModuleDict()

    @property
    def backbone(self) -> Backbone:
        """Backbone that all modalities pass through."""
        return self._backbone.module

    def add(
        self,
        modality: str,
        samples: Sequence[Any],
        options: dict[str, Any] | None = None,
        *,
        pooling: Pooling | None = None,
        seed: int = 0,
    ) -> Self:
        """Add a tower for a modality.

        Args:
            modality: Name of the tokenizer.
            samples: Raw samples of the training split, from which the tokenizer learns its statistics.
            options: Options of the tokenizer; by default none.
            pooling: Part of the backbone's output that becomes the vector, see ``Tower``.
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
            self.towers[modality] = Tower(self.backbone, tokenizer, self.size, pooling).to(self.backbone.device)
        return self

    def anchor(
        self, modality: str, encoder: FrozenEncoder | None = None, *, mapped: bool = True, seed: int = 0
    ) -> Self:
        """Make something that does not change an anchor, to which other modalities are aligned.

        Without ``encoder`` an aligned modality is locked: its vectors are the same before and after any training, to
        the last bit. With ``encoder`` the anchor is another model, which gives a vector for each sample, as in LiT
        (Zhai et al. 2022, arXiv 2111.07991), ULIP (Xue et al. 2023, arXiv 2212.05171) and ImageBind (Girdhar et al.
        2023, arXiv 2305.05665).

        Args:
            modality: Aligned modality; or, with ``encoder``, the name of a new one.
            encoder: Frozen encoder of another model, such as ``sentence_encoder`` makes; by default none.
            mapped: Train a linear map from the encoder's vectors to the space; False takes them as they are.
            seed: Seed of the map's initial weights.

        Raises:
            TypeError: If ``encoder`` is no encoder.
            ValueError: If the modality is not aligned, or with ``encoder`` is already; if it passes through a backbone
                that is trained; if there is no map and the encoder's vectors are not as wide as the space.

        Example:
            >>> alignment = metatx.Alignment.from_pretrained("nano").anchor("image")
            >>> any(weight.requires_grad for weight in alignment.towers["image"].parameters())
            False
        """
        if encoder is None:
            tower = self.tower(modality)
            if not self.backbone.frozen:
                raise ValueError(
                    f"{modality} passes through a backbone that is trained, which would change its vectors; align with "
                    "a frozen backbone, or take the vectors of another model (encoder=)."
                )
            tower.lock()
            return self
        check_encoder(encoder)
        if modality in self.towers or not modality.isidentifier():
            taken = "is aligned already" if modality in self.towers else "is no name of letters, digits and _"
            raise ValueError(f"{modality} {taken}; choose another name for the anchor {encoder.name}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.towers[modality] = ExternalTower(encoder, self.size, mapped).to(self.backbone.device)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let all parameters take gradients or none; those of locked modalities never do."""
        super().requires_grad_(requires_grad)
        for tower in self.towers.values():
            if isinstance(tower, Tower) and tower.locked:
                tower.requires_grad_(False)
        return self

    def set_options(self, modality: str, options: dict[str, Any]) -> Self:
        """Change options of the tokenizer of an aligned modality, such as its augmentation; its weights stay.

        Raises:
            ValueError: If an option is unknown, the weights do not fit the new options, or the modality is locked.
        """
        tower = self.tower(modality)
        if tower.locked:
            if options:
                raise ValueError(f"{modality} is an anchor, which does not change; give options before you lock it.")
            return self
        known = all_options(tower.tokenizer)
        tokenizer = build_tokenizer(modality, self.backbone, {**known, **options}).restore(tower.tokenizer.fitted)
        try:
            tokenizer.load_state_dict(tower.tokenizer.state_dict())
        except RuntimeError as error:
            raise ValueError(f"The weights of {modality} do not fit {options}: {error}") from None
        tower.tokenizer = tokenizer.requires_grad_(next(tower.parameters()).requires_grad).to(self.backbone.device)
        return self

    def aligned(self, modality: str) -> Tower | ExternalTower:
        """Return the way of a modality into the space. Raises ValueError, which lists the aligned ones, if none is."""
        if modality not in self.towers:
            raise ValueError(unknown("aligned modality", modality, list(self.towers)))
        tower = self.towers[modality]
        assert isinstance(tower, Tower | ExternalTower)
        return tower

    def tower(self, modality: str) -> Tower:
        """Return the tower of a modality that passes through the backbone; raises ValueError if it has none."""
        tower = self.aligned(modality)
        if isinstance(tower, ExternalTower):
            raise ValueError(f"{modality} is an anchor of {tower.encoder.name}; it has no tokens of this backbone.")
        return tower

    @property
    def kinds(self) -> dict[str, str]:
        """Names of the tokenizers whose raw samples modalities take, where known: an anchor may have another name."""
        kinds = {modality: kind_name(modality, self.aligned(modality)) for modality in self.towers}
        return {modality: name for modality, name in kinds.items() if name is not None}

    def kind(self, modality: str) -> type[Tokenizer]:
        """Return the class of the tokenizer whose raw samples a modality takes.

        Raises:
            ValueError: If the modality is not aligned, or the encoder of an anchor does not say what it reads.
        """
        tower = self.aligned(modality)
        if modality not in self.kinds:
            assert isinstance(tower, ExternalTower)
            raise ValueError(
                f"{modality} is an anchor of {tower.encoder.name}, which does not say what kind of samples it reads; "
                "make the encoder with it: FrozenEncoder(..., modality='text')."
            )
        kind: type[Tokenizer] = lookup("tokenizers", self.kinds[modality])
        return kind

    def fingerprint(self, modality: str) -> str:
        """SHA-256 (hex) of all that decides the vectors of a modality: equal before and after a run for an anchor."""
        tower = self.aligned(modality)
        passed = "" if isinstance(tower, ExternalTower) else self.backbone.fingerprint
        return hashlib.sha256(f"{passed}{tower.fingerprint}{self.size}".encode()).hexdigest()

    def forward(self, modality: str, batch: dict[str, Any]) -> Tensor:
        """Map collated tensors of one modality to unit vectors (B, E)."""
        tower = self.tower(modality)
        return tower.vectors(self.backbone(tower.tokens(batch)))

    @torch.no_grad()
    def features(self, modality: str, samples: Sequence[Any], batch_size: int = 128) -> np.ndarray:
        """Map raw samples to what the linear map of their tower reads (B, W), float32: vectors of an external anchor.

        ``project`` takes them on to the space; where they never change (``aligned(modality).fixed``), they need be
        computed only once.

        Raises:
            SampleError: If a sample cannot be used; gives its number, counted from 1.
            ValueError: If there are no samples, or the modality is not aligned.
        """
        return torch.cat(list(self._features(modality, samples, batch_size))).cpu().numpy()

    @torch.no_grad()
    def project(self, modality: str, features: np.ndarray) -> np.ndarray:
        """Map ``features`` (B, W) to unit vectors (B, E), float32."""
        tower = self.aligned(modality).eval()
        vectors: np.ndarray = tower.project(torch.from_numpy(features).to(self.backbone.device)).cpu().numpy()
        return vectors

    @torch.no_grad()
    def embed(self, modality: str, samples: Sequence[Any], batch_size: int = 128) -> np.ndarray:
        """Map raw samples to unit vectors (B, E), float32; the product of two vectors is their cosine.

        Raises:
            SampleError: If a sample cannot be used; gives its number, counted from 1.
            ValueError: If there are no samples, or the modality is not aligned.
        """
        tower = self.aligned(modality)
        parts = [tower.project(features).cpu().numpy() for features in self._features(modality, samples, batch_size)]
        return np.concatenate(parts)

    def _features(self, modality: str, samples: Sequence[Any], batch_size: int) -> Iterator[Tensor]:
        """Features of batch after batch of samples."""
        tower = self.aligned(modality).eval()
        if not len(samples):
            raise ValueError("There are no samples to embed.")
        if isinstance(tower, ExternalTower):
            vectors, bad = tower.encoder.vectors(samples, disk=False)
            if bad:
                first = min(bad)
                raise SampleError(f"sample {first + 1}: {bad[first]}")
            yield torch.from_numpy(vectors).to(self.backbone.device)
            return
        encoded = []
        for index, sample in enumerate(samples):
            try:
                encoded.append(tower.tokenizer.encode(sample))
            except SampleError as error:
                raise SampleError(f"sample {index + 1}: {error}") from None
            if len(encoded) == batch_size or index == len(samples) - 1:
                batch = to_device(collate(encoded), self.backbone.device)
                yield tower.pool(self.backbone(tower.tokens(batch)))
                encoded = []

    # On disk

    def save_pretrained(
        self, folder: str | Path, *, about: str, card: str = "", dtype: torch.dtype = torch.float32
    ) -> Path:
        """Write backbone and towers to a folder that ``load_backbone`` and ``from_pretrained`` read.

        The encoder of an anchor of another model is written by name and fingerprint only.

        Args:
            folder: Folder to write; one that is there is replaced, as a whole or not at all.
            about: One line on the origin of the weights.
            card: Text of the folder's README.md; by default none is written.
            dtype: Type of the stored weights; they are read as float32.

        Raises:
            OSError: If the folder cannot be written; nothing is changed then.
        """
        from safetensors.torch import save_file

        towers = {modality: _entry(self.aligned(modality)) for modality in self.towers}
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
        self.spec = str(Path(folder).absolute())
        return Path(folder)

    @classmethod
    def on(
        cls,
        backbone: Backbone,
        size: int = 192,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        encoders: Mapping[str, FrozenEncoder] | None = None,
    ) -> Self:
        """Return the alignment that came with a backbone's weights, or else a new one without towers.

        Args:
            backbone: Backbone of the alignment.
            size: Width of the vectors of a new alignment.
            loss: Loss of a new alignment.
            encoders: Encoders of anchors of other models, by modality.
        """
        folder = backbone_folder(backbone.spec)
        if backbone.pretrained and folder is not None and (folder / CONFIG).is_file():
            return cls.from_pretrained(backbone.spec, backbone, encoders)
        return cls(backbone, size, loss)

    @classmethod
    def from_pretrained(
        cls,
        spec: str | Path,
        backbone: Backbone | None = None,
        encoders: Mapping[str, FrozenEncoder] | None = None,
    ) -> Self:
        """Read an alignment that ``save_pretrained`` wrote.

        Args:
            spec: Folder, or ``nano``.
            backbone: The backbone of that folder, if it is in memory already; by default it is loaded.
            encoders: Encoders of the anchors of other models, by modality; their weights are in no folder.

        Raises:
            ValueError: If the folder holds no towers, they are damaged, or they do not fit the backbone; if the encoder
                of an anchor is missing, or is another than that of the folder.
        """
        folder = backbone_folder(str(spec))
        if folder is None or not (folder / CONFIG).is_file():
            raise ValueError(f"{spec} holds no aligned modalities: there is no {CONFIG}.")
        frozen = load_backbone(str(spec)) if backbone is None else backbone
        check_backbone(frozen)
        for encoder in (encoders or {}).values():
            check_encoder(encoder)
        try:
            content = json.loads((folder / CONFIG).read_text())
            alignment = cls(frozen, content["size"], content["loss"])
            alignment.spec = absolute_name(str(spec))
            for modality, entry in content["towers"].items():
                if ENCODER in entry:
                    encoder = encoder_of(folder, modality, entry[ENCODER], encoders or {})
                    alignment.towers[modality] = ExternalTower(encoder, alignment.size, entry["mapped"])
                    continue
                part = upgraded(entry, option_names(lookup("tokenizers", modality)))
                tokenizer = build_tokenizer(modality, frozen, part["options"]).restore(part["fitted"])
                alignment.towers[modality] = Tower(frozen, tokenizer, alignment.size, entry.get("pooling"))
            alignment.load_state_dict(read_tensors(folder / WEIGHTS, sha256=content["sha256"]))
            for modality in (modality for modality, entry in content["towers"].items() if entry.get("locked")):
                alignment.tower(modality).lock()
        except EncoderError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"{folder} is damaged: {str(error).splitlines()[0]}") from None
        return alignment.to(frozen.device).eval()


def _entry(tower: Tower | ExternalTower) -> dict[str, Any]:
    """Entry of a tower in the config."""
    if isinstance(tower, ExternalTower):
        return {ENCODER: known_by(tower.encoder), "mapped": tower.mapped}
    entry: dict[str, Any] = {"options": all_options(tower.tokenizer), "fitted": dict(tower.tokenizer.fitted)}
    return {**entry, "pooling": tower.pooling, "locked": tower.locked}
