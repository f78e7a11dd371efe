"""The form of a task's ``config.json``: which keys there are, and what each may hold."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from metatx.errors import TaskError, short

__all__ = ["checked_config", "upgraded"]

LARGEST_WHOLE, LARGEST = 10_000_000, 1e9  # an option is a size, a count, a rate


@dataclass(frozen=True)
class Form:
    """The form of a value, in words and as a test."""

    what: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_options(value: Any) -> bool:
    return isinstance(value, dict) and all(
        abs(one) <= (LARGEST if isinstance(one, float) else LARGEST_WHOLE) for one in value.values() if _is_number(one)
    )


def _are_metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(split, dict) and all(one is None or _is_number(one) for one in split.values())
        for split in value.values()
    )


def _are_facts(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(one, list | dict) for one in value.values())


TEXT = Form("a text", lambda value: isinstance(value, str))
TEXT_OR_NULL = Form("a text or null", lambda value: value is None or isinstance(value, str))
WHOLE = Form("a whole number", _is_whole)
FLAG = Form("true or false", lambda value: isinstance(value, bool))
RECORD = Form("an object", lambda value: isinstance(value, dict))
RECORD_OR_NULL = Form("an object or null", lambda value: value is None or isinstance(value, dict))
TEXTS = Form("a list of texts", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))
OPTIONS = Form(f"an object, its numbers at most {LARGEST_WHOLE:,} (whole) or {LARGEST:.0e}", _are_options)
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
    "backbone.pretrained": FLAG,
    "backbone.repository": TEXT_OR_NULL,
    "tokenizer": RECORD,
    "tokenizer.name": TEXT,
    "tokenizer.options": OPTIONS,
    "tokenizer.fitted": OPTIONS,
    "tune": TEXT,
    "adapter": RECORD_OR_NULL,
    "trainable_parameters": WHOLE,
    "head": RECORD,
    "head.name": TEXT,
    "head.options": OPTIONS,
    "head.fitted": OPTIONS,
    "head.note": TEXT,
    "inputs": TEXTS,
    "target": TEXT_OR_NULL,
    "precision": TEXT,
    "metrics": METRICS,
    "about": FACTS,
}
# Of tasks of older versions.
DEFAULTS: dict[str, Any] = {"tune": "frozen", "adapter": None, "about": {}, "metatx": "of an unknown version"}
OPTIONAL = {
    *DEFAULTS,
    *("backbone.dim", "backbone.pretrained", "backbone.repository"),
    *("head.note", "trainable_parameters"),
    *("tokenizer.fitted", "head.fitted"),
}
RENAMED = {"amplitude": "token_rms_factor"}  # options of older versions
MISSING = object()


def checked_config(config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A task's config, with what older versions left out; keys that are not known stay.

    Args:
        config: The config, as read from JSON.
        place: Place of the file, for the message.

    Raises:
        TaskError: If a key is missing or holds something else; names the key, what was found and what is expected.
    """
    for key, form in FORMS.items():
        value: Any = config
        for part in key.split("."):
            if part not in value:  # a record, for a key stands behind that of its record
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
    """A tokenizer or head of a config in the form of format 3, which holds what ``fit`` learned apart from the options.

    Formats 1 and 2 hold it among the options.

    Args:
        part: Its entry in the config: ``options``, and ``fitted`` from format 3 on.
        accepted: Names of the options that its class takes today.
        facts: Names of the facts that its ``build`` takes, also where an option has the same name: formats 1 and 2
            overwrote the option with what was learned.
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
