"""Inputs that another frozen backbone reads first: ``Through``, and the choice of these backbones."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metatx.backbone.base import Backbone
from metatx.backbone.loading import load_backbone
from metatx.backbone.names import absolute_name
from metatx.bridge import Bridge
from metatx.errors import TaskError, short
from metatx.layers.input_norm import input_norm
from metatx.layers.unregistered import Unregistered
from metatx.registry import called, create, lookup, option_names, unknown
from metatx.sequence import TokenSequence, concatenate, divide
from metatx.spec import Input
from metatx.tokenizer import Tokenizer

__all__ = [
    *("READ", "Entering", "Others", "Through", "backbones_by_name", "check_needed", "checkpoints"),
    *("other_backbones", "put_together", "read_by_others", "taken_apart", "with_checkpoints"),
]

READ = "read"  # field of an input in the place of those of its tokenizer, see ``taken_apart``
LENGTHS = "lengths"  # field beside it: lengths of the sample's sequences
GRID = "grid"  # field beside it: the grid of its tokens, empty for none

NAMED = ("backbone", "checkpoint", "pretrained", "fingerprint", "bridge")  # the other keys are options of the bridge
EXAMPLE = "meta-transformer:base=weights.pth"
FINGERPRINT = re.compile("[0-9a-f]{64}")

Others = Mapping[str, Backbone] | Iterable[Backbone] | Backbone | None  # as a user gives other backbones


class Through(nn.Module):
    """Way of an input's tokens through another frozen backbone, and over a bridge to tokens of the task's backbone.

    Norm and bridge are trained; the other backbone is shared, and neither copied nor saved.

    Args:
        dim: Width of the task's backbone, D.
        choices: The input's ``through``.
        other: The other backbone, of width E.
        tokenizer: Tokenizer of the input, of width E.

    Attributes:
        norm: Norm of the tokens that enter the other backbone.
        bridge: Bridge behind it.
    """

    def __init__(self, dim: int, choices: Mapping[str, Any], other: Backbone, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._other = Unregistered(other)
        self.norm = input_norm(other, tokenizer)
        options = {name: value for name, value in choices.items() if name not in NAMED}
        kind = lookup("bridges", choices["bridge"])
        accepted = option_names(kind)
        for name in options:
            if name not in accepted:
                raise ValueError(unknown(f"option of {called(kind)}", name, [*accepted, *NAMED]))
        bridge: Bridge = create("bridges", choices["bridge"], dim, **options)
        self.bridge = bridge.restore({"width": other.dim})

    @property
    def other(self) -> Backbone:
        """The other backbone."""
        return self._other.module

    def follow(self) -> None:
        """Move the other backbone to the device of the bridge, with all that share it."""
        device = next(self.bridge.parameters()).device
        if self.other.device != device:
            self.other.to(device)

    def enter(self, sequence: TokenSequence) -> TokenSequence:
        """Tokens (T, E) that enter the other backbone, from those of the tokenizer."""
        return sequence.with_embeddings(self.norm(sequence.embeddings))

    def leave(self, fields: Mapping[str, Any], output: TokenSequence | None) -> TokenSequence:
        """Tokens (T', D) for the task's backbone, from the output of the other, or from fields of ``taken_apart``."""
        pooled = put_together(fields) if output is None else self.bridge.pool(output)
        crossed: TokenSequence = self.bridge(pooled)
        return crossed

    def blank(self, sequence: TokenSequence) -> TokenSequence:
        """Zeros in the form of the other backbone's output for a sequence, from which lengths follow without a pass."""
        prefix = self.other.num_prefix_tokens
        lengths = tuple(length + prefix for length in sequence.lengths)
        zeros = sequence.embeddings.new_zeros(sum(lengths), self.other.dim)
        return replace(sequence, embeddings=zeros, lengths=lengths, num_prefix_tokens=prefix)


def taken_apart(sequence: TokenSequence) -> list[dict[str, Tensor]]:
    """Fields of each sample with its tokens, on the CPU, in float32; without context. ``put_together`` reverses it."""
    counts = sequence.sequences_per_sample or (1,) * len(sequence)
    lengths = torch.split(torch.tensor(sequence.lengths), list(counts))
    tokens = torch.split(sequence.embeddings.float().cpu(), [int(each.sum()) for each in lengths])
    grid = torch.tensor(sequence.grid or (), dtype=torch.long)
    return [{READ: read, LENGTHS: each, GRID: grid} for read, each in zip(tokens, lengths, strict=True)]


def put_together(fields: Mapping[str, Any]) -> TokenSequence:
    """Sequences of samples from their collated fields."""
    counts = tuple(map(len, fields[LENGTHS]))
    grid = tuple(fields[GRID][0].tolist())
    return TokenSequence(
        torch.cat(list(fields[READ])),
        tuple(length for each in fields[LENGTHS] for length in each.tolist()),
        sequences_per_sample=None if set(counts) == {1} else counts,
        grids={"": grid} if grid else {},
    )


Entering = Mapping[str, tuple[Through, TokenSequence]]  # ways by input, and the tokens that enter their backbones


def read_by_others(batches: Sequence[Entering]) -> list[dict[str, TokenSequence]]:
    """Output of the other backbones for each batch, by input; each backbone is called once for all batches."""
    read: list[dict[str, TokenSequence]] = [{} for _ in batches]
    calls: dict[int, list[tuple[int, str]]] = {}
    for at, entering in enumerate(batches):
        for name, (way, _) in entering.items():
            calls.setdefault(id(way.other), []).append((at, name))
    for places in calls.values():
        sequences = [batches[at][name][1] for at, name in places]
        at, name = places[0]
        other = batches[at][name][0].other
        together = sequences[0] if len(sequences) == 1 else concatenate(sequences)
        for (at, name), output in zip(places, divide(other(together), sequences), strict=True):
            read[at][name] = output
    return read


def backbones_by_name(others: Others) -> dict[str, Backbone]:
    """Other backbones that a user gives, by name or fingerprint.

    Args:
        others: Backbones by the name that ``through`` has, or by fingerprint; or several, or one, which are known by
            their ``spec``, and those of the same spec by fingerprint.

    Raises:
        TypeError: If something is no backbone, or a name no text.
        ValueError: If a backbone has another fingerprint than it is given by.
    """
    if others is None:
        return {}
    if isinstance(others, Mapping):
        given = dict(others)
    else:
        listed: list[Any] = [others]
        if isinstance(others, Iterable) and not isinstance(others, Backbone | str):
            listed = list(others)
        specs = [getattr(each, "spec", None) for each in listed]
        given = {
            each.fingerprint if isinstance(each, Backbone) and specs.count(each.spec) > 1 else specs[at]: each
            for at, each in enumerate(listed)
        }
    for name, other in given.items():
        if not isinstance(other, Backbone) or not isinstance(name, str):
            wrong = other if not isinstance(other, Backbone) else name
            raise TypeError(
                f"others holds {short(wrong)}; expected backbones from load_backbone, by the names that through of the "
                "inputs has: {'nano': backbone}."
            )
        if FINGERPRINT.fullmatch(name) and name != other.fingerprint:
            raise ValueError(
                f"others has {other.spec} by the fingerprint {name[:12]}, but its own is {other.fingerprint[:12]}; "
                "give it by its name."
            )
    return given


def checkpoints(text: str | None) -> dict[str, str]:
    """Absolute paths of the checkpoints that ``--others NAME=FILE,...`` says, by the names of the backbones.

    Raises:
        ValueError: If the text has another form.
    """
    files: dict[str, str] = {}
    for part in [] if text is None else text.split(","):
        name, _, file = part.strip().partition("=")
        if not name or not file:
            raise ValueError(f"--others is {text!r}; expected NAME=FILE, such as {EXAMPLE}; several with commas.")
        files[name] = str(Path(file).absolute())
    return files


def with_checkpoints(files: Mapping[str, str]) -> dict[str, Backbone]:
    """Backbones by name, each with the weights of its file. Raises ValueError, OSError as ``load_backbone``."""
    return {name: load_backbone(name, checkpoint=file) for name, file in files.items()}


def check_needed(given: Mapping[str, Backbone], needed: Iterable[Backbone]) -> None:
    """Refuse a backbone that was given and that reads no input. Raises ValueError."""
    read = {id(other): other for other in needed}
    for name, other in given.items():
        if id(other) not in read:
            names = ", ".join(each.spec for each in read.values())
            only = f"the inputs are read first by {names}" if names else "no input is read by another backbone first"
            raise ValueError(f"others has {name:.40}, but {only}; leave it out.")


def other_backbones(
    inputs: Iterable[Input], given: Mapping[str, Backbone] | None = None
) -> tuple[list[Input], dict[str, Backbone]]:
    """Find the other backbones that inputs are read by.

    Args:
        inputs: Inputs, of which some have ``through``.
        given: Result of ``backbones_by_name``. Others are loaded.

    Returns:
        The inputs, whose ``through`` names the fingerprint too and has absolute paths, and the backbones by
        fingerprint.

    Raises:
        ValueError: If a backbone cannot be loaded, or is not frozen.
        OSError: If its weights cannot be read.
        TaskError: If a backbone has another fingerprint than ``through`` says.
    """
    complete: list[Input] = []
    others: dict[str, Backbone] = {}
    loaded: dict[Any, Backbone] = {}
    for each in inputs:
        if each.through is None:
            complete.append(each)
            continue
        other, fingerprint = _other(each.name, each.through, given or {}, loaded)
        others[fingerprint] = other
        choices = {**each.through, "pretrained": other.pretrained, "fingerprint": fingerprint}
        choices["backbone"] = absolute_name(choices["backbone"])
        complete.append(replace(each, through=choices))
    return complete, others


def _other(
    name: str, choices: Mapping[str, Any], given: Mapping[str, Backbone], loaded: dict[Any, Backbone]
) -> tuple[Backbone, str]:
    """Backbone that reads an input first, and its fingerprint; one that is loaded is kept in ``loaded``."""
    spec = absolute_name(choices["backbone"])
    wanted: str = choices.get("fingerprint", "")
    if wanted in given:
        return given[wanted], wanted
    of_spec = [each for each in given.values() if each.spec == spec]
    by_name = {absolute_name(given_name): each for given_name, each in given.items()}
    other = by_name.get(spec, of_spec[0] if not wanted and len(of_spec) == 1 else None)
    if other is None:
        options = {"checkpoint": choices.get("checkpoint"), "pretrained": choices.get("pretrained", True)}
        key = spec, *options.values()
        other = loaded.get(key) or load_backbone(spec, **options)
        loaded[key] = other
    if not other.frozen:
        raise ValueError(f"The backbone {spec}, which reads input {name}, trains; give a frozen one.")
    fingerprint = other.fingerprint
    if wanted not in ("", fingerprint):
        raise TaskError(
            f"input {name} was trained on what backbone {spec} ({wanted[:12]}) makes of it, not on that of "
            f"{other.spec} ({fingerprint[:12]}); give that one as others={{{spec!r}: backbone}}"
        )
    return other, fingerprint
