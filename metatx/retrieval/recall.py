"""Recall of an alignment: every modality asked for its partners in every other, beside chance and classical models."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from metatx.errors import SampleError, first_named
from metatx.files import json_text, written_whole
from metatx.metrics.retrieval import chance_ranking, partner_ranking
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.towers import ExternalTower
from metatx.progress import bar, tell
from metatx.retrieval.classical import CanonicalLine, Features, classical_features, frozen_features, untrained

__all__ = ["Paired", "Recall", "recall"]

AT = (1, 5, 10)
NUMBERED = re.compile(r"sample (\d+): (.*)", re.DOTALL)  # message on one of several samples
HEADINGS = {"mrr": "MRR", "median_rank": "median rank"}


@dataclass(frozen=True)
class Paired:
    """Samples of several names that belong together, of which each may have several partners or none.

    Args:
        samples: Raw samples by name.
        numbers: Number of the pair of each sample, by name: samples of equal number are partners. By default samples
            of a name are counted from 0.
        rows: Row of each pair in its table, counted from 1, for messages; by default its number and 1.

    Raises:
        ValueError: If there are fewer than two names, a name has no samples, or not as many numbers as samples.

    Example:
        >>> samples = {"image": ["a.png", "b.png"], "text": ["a cat", "one cat", "a dog"]}
        >>> pairs = metatx.Paired(samples, {"text": [0, 0, 1]})
        >>> pairs.of("image").tolist(), pairs.of("text").tolist()
        ([0, 1], [0, 0, 1])
    """

    samples: Mapping[str, Sequence[Any]]
    numbers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    rows: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if len(self.samples) < 2:
            raise ValueError(f"Recall compares two modalities or more; found {', '.join(self.samples) or 'none'}.")
        for name, samples in self.samples.items():
            numbers = self.numbers.get(name, samples)
            if not len(samples) or len(numbers) != len(samples):
                raise ValueError(
                    f"{name} has {len(samples)} samples and {len(numbers)} numbers; expected a number a sample, and at "
                    "least one sample."
                )

    def of(self, name: str) -> np.ndarray:
        """Number of the pair of each sample (B,)."""
        return np.asarray(self.numbers.get(name, range(len(self.samples[name]))))

    def place(self, name: str, at: int) -> str:
        """Place of a sample, counted from 0, for messages."""
        number = int(self.of(name)[at])
        return f"row {number + 1 if self.rows is None else self.rows[number]}, {name}"

    def without(self, bad: Mapping[str, Collection[int]]) -> "Paired":
        """Pairs without some samples, by name and position. Raises ValueError if none of a name is left."""
        kept = {name: [at for at in range(len(self.samples[name])) if at not in bad[name]] for name in self.samples}
        samples = {name: [self.samples[name][at] for at in places] for name, places in kept.items()}
        return Paired(samples, {name: self.of(name)[places].tolist() for name, places in kept.items()}, self.rows)


@dataclass(frozen=True)
class Recall:
    """Measures of every ordered pair of names, on several lines.

    Attributes:
        counts: Number of samples by name.
        lines: For each (query, answer) the measures of ``partner_ranking`` by the name of the line: ``aligned``,
            ``untrained``, the lines of CCA, and ``chance``.
    """

    counts: Mapping[str, int]
    lines: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]

    def as_json(self) -> dict[str, Any]:
        """Measures by ``query_to_answer`` and line, with the numbers of queries and answers."""
        return {
            f"{query}_to_{answer}": {"queries": self.counts[query], "answers": self.counts[answer], **lines}
            for (query, answer), lines in self.lines.items()
        }

    def write(self, path: Path, **facts: Any) -> None:
        """Write the measures as JSON, after facts about the run; a folder that is not there is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            temporary.write_text(json_text({**facts, **self.as_json()}))

    def __str__(self) -> str:
        rows = []
        for (query, answer), lines in self.lines.items():
            measures = next(iter(lines.values()))
            title = f"{query} ({self.counts[query]:,}) -> {answer} ({self.counts[answer]:,})"
            rows.append([title, *(HEADINGS.get(name, name.replace("recall", "R")) for name in measures)])
            for line, values in lines.items():
                ranks = [f"{value:,.1f}" if name == "median_rank" else f"{value:.4f}" for name, value in values.items()]
                rows.append([f"  {line}", *ranks])
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{row[0]:<{width}}" + "".join(f"  {cell:>11}" for cell in row[1:]) for row in rows)


def recall(
    alignment: Alignment,
    test: Paired | Mapping[str, Sequence[Any]],
    *,
    train: Paired | None = None,
    validation: Paired | None = None,
    modalities: Mapping[str, str] | None = None,
    at: Sequence[int] = AT,
    baseline: bool = True,
    skip_bad: bool = False,
) -> Recall:
    """Ask each modality for its partners in each other one.

    Beside the alignment stand chance; the same backbone with towers that nobody trained, each side centred, where both
    sides are equally wide; and regularised canonical correlation analysis, its strength chosen on the validation split,
    or on a fifth of the training split where there is none: on classical features, and, where a side has frozen ones
    (those of the backbone behind its own stem, or of another model), on these.

    Args:
        alignment: Alignment to measure.
        test: Samples of the test split; a mapping has one partner each, in order.
        train: Samples that CCA learns from; without them there is no such line.
        validation: Samples that choose the strength of CCA.
        modalities: Aligned modality of each name; by default the name itself.
        at: Values of ``k`` of the recalls.
        baseline: Compute the lines beside the alignment and chance.
        skip_bad: Leave out samples that cannot be used, and say so; by default they raise SampleError.

    Raises:
        SampleError: If a sample cannot be used; names its row and the side.
        ValueError: If a modality is not aligned, or no sample has a partner.

    Example:
        >>> alignment = metatx.Alignment.from_pretrained("nano")
        >>> texts = ["a dog", "a plane", "a red shirt"]
        >>> pairs = metatx.Paired({"left": texts, "right": texts})
        >>> same = metatx.recall(alignment, pairs, modalities={"left": "text", "right": "text"}, baseline=False)
        >>> same.lines["left", "right"]["aligned"]["recall@1"]
        1.0
    """
    paired = test if isinstance(test, Paired) else Paired(test)
    names = {name: (modalities or {}).get(name, name) for name in paired.samples}
    for modality in names.values():
        alignment.aligned(modality)
    if skip_bad:
        paired = _usable(alignment, names, paired)
        train = train and _usable(alignment, names, train)
        validation = validation and _usable(alignment, names, validation)
    vectors = {"aligned": _sides(paired, lambda name, part: alignment.embed(names[name], part))}
    canonical: dict[str, CanonicalLine] = {}
    if baseline:
        fresh = untrained(alignment)
        vectors["untrained"] = _untrained(fresh, names, paired)
        canonical = {} if train is None else _canonical_lines(fresh, names, paired, train, validation)
    lines: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for query, answer in permutations(names, 2):
        numbers = (paired.of(query), paired.of(answer))
        ways = lines[query, answer] = {}
        for line, sides in vectors.items():
            if sides[query].shape[1] == sides[answer].shape[1]:
                ways[line] = partner_ranking(sides[query], sides[answer], *numbers, at)
        for line, model in canonical.items():
            ways[line] = partner_ranking(*model.vectors(query, answer), *numbers, at)
        ways["chance"] = chance_ranking(*numbers, at)
    return Recall({name: len(samples) for name, samples in paired.samples.items()}, lines)


def _sides(paired: Paired, features: Any) -> dict[str, np.ndarray]:
    """What a function of a name and its samples gives for each name. Raises SampleError that names the side."""
    sides = {}
    for name in bar(list(paired.samples), "samples"):
        try:
            sides[name] = features(name, paired.samples[name])
        except SampleError as error:
            numbered = NUMBERED.fullmatch(str(error))
            told = f"{paired.place(name, int(numbered[1]) - 1)}: {numbered[2]}" if numbered else f"{name}, {error}"
            raise SampleError(f"{told}. Bad samples are left out with skip_bad (--skip-bad-samples).") from None
    return sides


def _usable(alignment: Alignment, names: Mapping[str, str], paired: Paired) -> Paired:
    """Pairs without the samples that cannot be used, which are reported."""
    bad: dict[str, dict[int, str]] = {}
    for name, modality in names.items():
        tower = alignment.aligned(modality)
        if isinstance(tower, ExternalTower):
            bad[name] = tower.encoder.vectors(paired.samples[name])[1]
            continue
        bad[name] = {}
        for at, sample in enumerate(paired.samples[name]):
            try:
                tower.tokenizer.encode(sample)
            except SampleError as error:
                bad[name][at] = str(error)
    reasons = [f"{paired.place(name, at)}: {why}" for name, of_side in bad.items() for at, why in of_side.items()]
    if not reasons:
        return paired
    tell(f"{len(reasons):,} samples cannot be used and are left out: {first_named(reasons)}.")
    return paired.without(bad)


def _untrained(fresh: Alignment, names: Mapping[str, str], paired: Paired) -> dict[str, np.ndarray]:
    """Unit vectors of what the backbone gives without training, each side less its own mean."""
    sides = {}
    for name, features in _sides(paired, lambda n, s: fresh.features(names[n], s)).items():
        centred = features - features.mean(0)
        sides[name] = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return sides


def _canonical_lines(
    fresh: Alignment, names: Mapping[str, str], paired: Paired, train: Paired, validation: Paired | None
) -> dict[str, CanonicalLine]:
    """CCA of classical features, and of frozen ones where a side has such."""
    classical = {name: classical_features(fresh, modality) for name, modality in names.items()}
    frozen = {name: frozen_features(fresh, modality) for name, modality in names.items()}
    lines = {"CCA, classical features": _canonical(classical, paired, train, validation)}
    if any(frozen.values()):
        best = {name: frozen[name] or classical[name] for name in names}
        lines["CCA, frozen features"] = _canonical(best, paired, train, validation)
    return lines


def _canonical(
    features: Mapping[str, Features], paired: Paired, train: Paired, validation: Paired | None
) -> CanonicalLine:
    """CCA of all pairs of names, fitted when they are asked for."""
    splits = {"test": paired, "train": train} | ({} if validation is None else {"validation": validation})
    numbers = {split: {name: part.of(name) for name in features} for split, part in splits.items()}
    sides: dict[str, dict[str, np.ndarray]] = {split: {} for split in splits}
    for name, read in features.items():
        parts = read({split: part.samples[name] for split, part in splits.items()})
        for split, values in parts.items():
            sides[split][name] = values
    return CanonicalLine(sides, numbers)
