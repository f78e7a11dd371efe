"""Facts that decide the numbers of a run, and the differences between two runs' facts, in words."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from metatx.data.content_hash import Content
from metatx.encoding.encoded import EncodedDataset
from metatx.model import Model
from metatx.registry import all_options

__all__ = ["Facts", "data_fact", "differences", "facts_of"]

# Facts by their names in messages. A fact is a JSON value, or a dict of the value that is compared ("is") and its text
# in messages ("said").
Facts = dict[str, Any]

LONGEST = 60  # letters of a value in a message
NAMED = 5  # items of a list in a message


def facts_of(
    model: Model,
    data: EncodedDataset,
    validation: EncodedDataset | None,
    columns: Mapping[str, Any] | None = None,
) -> Facts:
    """Facts that a run must share with the run that it resumes, in addition to the settings.

    Args:
        model: Model before it is trained.
        data: Training split.
        validation: Validation split, where there is one.
        columns: Columns that make up samples and targets.
    """
    backbone = model.backbone
    fingerprint = backbone.fingerprint
    spec = backbone.spec if backbone.pretrained else f"{backbone.spec} with random weights"
    facts: Facts = {
        "backbone": {"is": fingerprint, "said": f"{spec} ({fingerprint[:12]})"},
        "the backbone's precision": backbone.precision,
        "tune": model.tune,
        **(model.adapter.options if model.adapter else {}),
        "tokenizer": model.tokenizer.name,
        "head": model.head.name,
        **(columns or {}),
    }
    # The data come before what is learned from them: they are then named first in a message.
    facts["the training data"] = data_fact(data)
    facts["the validation data"] = None if validation is None else data_fact(validation)
    for part, component in {"tokenizer": model.tokenizer, "head": model.head}.items():
        values = {**all_options(component), **component.fitted}
        facts |= {f"the {part}'s {name}": value for name, value in values.items()}
    learned = Content()
    learned.add_tensors(dict(model.tokenizer.named_buffers()))
    facts["the tokenizer's statistics"] = {"is": learned.hexdigest(), "said": f"({learned.hexdigest()[:6]})"}
    return facts


class Hashed(Protocol):
    """Samples with hashes of their content."""

    content: tuple[str, str]

    def __len__(self) -> int: ...


def data_fact(data: EncodedDataset | Hashed) -> Any:
    """Fact of a split: hashes of its samples and targets."""
    content = "-".join(data.content)
    inputs, targets = (part[:6] for part in data.content)
    return {"is": content, "said": f"{len(data):,} samples (content {inputs}, targets {targets})"}


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Facts that changed, each as ``NAME OLD -> NEW``."""
    names = [*now, *(name for name in saved if name not in now)]
    return [
        f"{name} {_change(saved.get(name), now.get(name))}"
        for name in names
        if _decisive(saved.get(name)) != _decisive(now.get(name))
    ]


def _decisive(value: Any) -> str:
    return json.dumps(value["is"] if _is_said(value) else value, sort_keys=True, default=str)


def _is_said(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"is", "said"}


def _change(old: Any, new: Any) -> str:
    said = [_said(value) for value in (old, new)]
    if max(map(len, said)) <= LONGEST or not (isinstance(old, list) and isinstance(new, list)):
        return " -> ".join(said if _is_said(old) else map(_short, said))
    gone = [_label(item) for item in old if item not in new]
    come = [_label(item) for item in new if item not in old]
    if gone and gone == come:
        return f"with other values of {', '.join(gone[:NAMED])}{_more(gone)}"
    parts = {"without": gone, "with": come}
    changes = [f"{word} {', '.join(items[:NAMED])}{_more(items)}" for word, items in parts.items() if items]
    return " and ".join(changes) or "in another order"


def _label(item: Any) -> str:
    """Short text for an item of a list; an item with a name, such as a column, is shown by its name."""
    return str(item["name"]) if isinstance(item, dict) and "name" in item else _short(str(item))


def _short(text: str) -> str:
    return f"{text[:LONGEST]}..." if len(text) > LONGEST else text


def _more(items: list[str]) -> str:
    return f" and {len(items) - NAMED} more" if len(items) > NAMED else ""


def _said(value: Any) -> str:
    if _is_said(value):
        return str(value["said"])
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
