"""A task's ``config.json``, read and checked: its keys and the form of their values. It needs no torch."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatx.disk.task_files import BOUNDS, read_json, within_bounds
from metatx.errors import TaskError, short

__all__ = ["FORMAT", "VERSION", "checked_config", "describe", "upgraded"]

FORMAT = "metatx-task"
VERSION = 3  # 1 had no ``tune``, 2 held fitted facts among the options


@dataclass(frozen=True)
class Form:
    """Form of a value, in words and as a test."""

    what: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_options(value: Any) -> bool:
    # What lies within an option is checked where it is built: formats 1 and 2 hold facts, which are free, among them.
    return isinstance(value, dict) and all(map(within_bounds, value.values()))


def _are_fitted(value: Any) -> bool:
    """Facts: numbers within lists are the data's, such as labels. Those of several inputs lie in ``parts``, by name."""
    parts = value.get("parts") if isinstance(value, dict) else None
    return (
        isinstance(value, dict)
        and all(map(within_bounds, value.values()))
        and all(_are_fitted(part) for part in (parts.values() if isinstance(parts, dict) else ()))
    )


def _are_metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(metrics, dict) and all(metric is None or _is_number(metric) for metric in metrics.values())
        for metrics in value.values()
    )


def _are_facts(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(fact, list | dict) for fact in value.values())


TEXT = Form("a text", lambda value: isinstance(value, str))
TEXT_OR_NULL = Form("a text or null", lambda value: value is None or isinstance(value, str))
WHOLE = Form("a whole number", _is_whole)
FLAG = Form("true or false", lambda value: isinstance(value, bool))
RECORD = Form("an object", lambda value: isinstance(value, dict))
RECORD_OR_NULL = Form("an object or null", lambda value: value is None or isinstance(value, dict))
TEXTS = Form("a list of texts", lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value))
OPTIONS = Form(f"an object, its numbers {BOUNDS}", _are_options)
FITTED = Form(OPTIONS.what, _are_fitted)
METRICS = Form("numbers by name, by the name of a model", _are_metrics)
FACTS = Form("an object of texts", _are_facts)

FORMS = {
    "format": TEXT,
    "version": WHOLE,
    "metatx": TEXT,
    "backbone": RECORD,
    "backbone.spec": TEXT,
    "backbone.fingerprint": TEXT,
    "backbone.dim": WHOLE,
    "backbone.attention_pool": TEXT_OR_NULL,
    "backbone.pretrained": FLAG,
    "backbone.repository": TEXT_OR_NULL,
    "tokenizer": RECORD,
    "tokenizer.name": TEXT,
    "tokenizer.options": OPTIONS,
    "tokenizer.fitted": FITTED,
    "tune": TEXT,
    "adapter": RECORD_OR_NULL,
    "trainable_parameters": WHOLE,
    "head": RECORD,
    "head.name": TEXT,
    "head.options": OPTIONS,
    "head.fitted": FITTED,
    "head.note": TEXT,
    "fusion": RECORD_OR_NULL,
    "inputs": TEXTS,
    "target": TEXT_OR_NULL,
    "precision": TEXT,
    "metrics": METRICS,
    "about": FACTS,
}
# Values of keys that tasks of older versions do not have.
DEFAULTS: dict[str, Any] = {
    "tune": "frozen",
    "adapter": None,
    "fusion": None,
    "about": {},
    "metatx": "of an unknown version",
}
OPTIONAL = {
    *DEFAULTS,
    *("backbone.attention_pool", "backbone.dim", "backbone.pretrained", "backbone.repository"),
    *("head.note", "trainable_parameters"),
    *("tokenizer.fitted", "head.fitted"),
}
RENAMED = {"amplitude": "token_rms_factor"}  # options by their names in older versions
MISSING = object()


def describe(folder: Path) -> dict[str, Any]:
    """Read and check a task's ``config.json``.

    Raises:
        FileNotFoundError: If the folder does not exist.
        TaskError: If it is no task, has a newer format, or a key is missing or has a value of another form.
    """
    try:
        exists = folder.exists()
    except (OSError, ValueError) as error:  # the name is too long, or holds a NUL
        raise FileNotFoundError(f"{folder} cannot be a folder: {getattr(error, 'strerror', error)}.") from None
    if not exists:
        raise FileNotFoundError(f"{folder} does not exist.")
    try:
        config = read_json(folder, "config.json")
    except FileNotFoundError:
        raise TaskError(f"{folder} is no task: it has no config.json.") from None
    except NotADirectoryError:
        raise TaskError(f"{folder} is a file; a task is a folder.") from None
    place = f"{folder}/config.json"
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise TaskError(f"{place} is damaged or not a task's.")
    if isinstance(config.get("version"), int) and config["version"] > VERSION:
        raise TaskError(
            f"{folder} is of format {config['version']}, by metatx {config.get('metatx')!r:.40}; this metatx reads "
            f"formats up to {VERSION}. Update it."
        )
    return checked_config(config, place)


def checked_config(config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Check a task's config and add the keys that older versions left out; unknown keys are kept.

    Args:
        config: The config, as read from JSON.
        place: Place of the file, for the message.

    Raises:
        TaskError: If a key is missing or has a value of another form; names the key, the value and the expected form.
    """
    for key, form in FORMS.items():
        value: Any = config
        for part in key.split("."):
            if part not in value:  # ``value`` is a dict, because a record's key is checked before its parts
                value = MISSING
                break
            value = value[part]
        if value is MISSING:
            if key not in OPTIONAL:
                raise TaskError(f"{place} is damaged: it lacks {key!r}; expected {form.what}.")
        elif not form.fits(value):
            raise TaskError(f"{place} is damaged: {key!r} is {short(value)}; expected {form.what}.")
    return {**DEFAULTS, **config}


def upgraded(part: Mapping[str, Any], accepted: Collection[str], facts: Collection[str] = ()) -> dict[str, Any]:
    """Bring the entry of a tokenizer or head to format 3, which separates what ``fit`` learned from the options.

    Formats 1 and 2 hold both as options.

    Args:
        part: Entry in the config, with ``options``, and from format 3 on ``fitted``.
        accepted: Names of the options that the class takes today.
        facts: Names of the facts that ``build`` takes. A fact may have the name of an option: formats 1 and 2 then
            replaced the option by the fact.
    """
    if "fitted" in part:
        return dict(part)
    options: dict[str, Any] = {}
    fitted: dict[str, Any] = {}
    for name, value in part["options"].items():
        today = RENAMED.get(name, name)
        if name not in accepted and today in accepted:
            options[today] = value
        else:
            (options if name in accepted and name not in facts else fitted)[name] = value
    return {**part, "options": options, "fitted": fitted}
