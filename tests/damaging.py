"""Damage to the folder of a task, drawn at random: its config, its files, links."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DEEP: Any = []
for _ in range(50):
    DEEP = [DEEP]
STRANGE = [
    *(None, True, False, 0, 1, -1, 2, 8000, 10**6, 10**9, 2**70, -(10**30), 0.5, -1e308, 1e308),
    *(
        float("nan"),
        float("inf"),
        "",
        "2",
        "x",
        "../../x",
        "nano",
        "\ud800",
        "é\n\0",
        "open_clip:hf-hub:a/b",
        "x" * 5000,
    ),
    *([], [0], [None], ["a"], [[]], [1e308], [8000, 8000], {}, {"a": 1}, {"": None}, DEEP),
]
TEXTS = ["", "{", "null", "[]", "[" * 100_000, '{"a":' * 5000, "\x00", '{"format": "metatx-task"}', "NaN"]


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all parts of a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [place for key in keys for place in ((*above, key), *places(value[key], (*above, key)))]


@st.composite
def changed(draw: Any, config: dict[str, Any]) -> str:
    """A config with one to three keys dropped or changed, as text; sometimes no JSON at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(TEXTS))
    found = copy.deepcopy(config)
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(places(found) or [("x",)]))
        part = found
        for step in above:
            part = part[step]
        if draw(st.booleans()) and key in part:
            del part[key]
        else:
            part[key] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
    return json.dumps(found)


def away(place: Path) -> None:
    """Remove what is there, whatever it is."""
    place.parent.mkdir(exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def link_out(place: Path) -> None:
    away(place)
    place.symlink_to("/etc/passwd")


def link_to_itself(place: Path) -> None:
    away(place)
    place.symlink_to(place.name)


def link_up(place: Path) -> None:
    away(place)
    place.symlink_to("..")


def pipe(place: Path) -> None:
    away(place)
    os.mkfifo(place)


def folder(place: Path) -> None:
    away(place)
    place.mkdir()


def half(place: Path) -> None:
    if place.is_file():
        place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])


def flipped(place: Path) -> None:
    if place.is_file():
        content = bytearray(place.read_bytes())
        for at in range(0, len(content), max(1, len(content) // 20)):
            content[at] ^= 0x55
        place.write_bytes(content)


def empty(place: Path) -> None:
    away(place)
    place.write_bytes(b"")


DAMAGE = [away, link_out, link_to_itself, link_up, pipe, folder, half, flipped, empty]
PARTS = ["config.json", "model.safetensors", "README.md", "adapter", "adapter/adapter_config.json", "."]
PARTS += ["adapter/adapter_model.safetensors", "new", "task"]
