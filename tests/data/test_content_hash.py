"""What a kept result is found by: equal things give equal hashes, and no others."""

import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import metatx
from metatx.data import content_hash as content
from metatx.data.content_hash import Content, options_of

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
)


def told(*parts, **options):
    made = Content(**options)
    for part in parts:
        made.add(part)
    return made.hexdigest()


def _form(value):
    """What tells a value apart: -0.0 from 0.0, True from 1, a list from a dict of the same."""
    return repr(value)


@settings(deadline=None, max_examples=300)
@given(values, values)
def test_only_equal_values_are_told_alike(one, other):
    assert (told(one) == told(other)) == (_form(one) == _form(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([b"ab", b"c"], [b"a", b"bc"]),
        ({"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "c": 2}}),
        ([["a"], "b"], [["a", "b"]]),
        ("1", 1),
        (1, 1.0),
        (np.zeros(4, "<f4"), np.zeros(4, ">f4")),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2, [("x", "f4"), ("y", "f4")]), np.zeros(2, [("x", "f4"), ("z", "f4")])),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (np.float32(1), np.float64(1)),
    ],
)
def test_what_differs_in_form_alone_differs(one, other):
    assert told(one) != told(other)
    assert told(one) == told(one)


def test_a_tensor_with_a_gradient_and_a_turned_array_are_their_values():
    assert told(torch.ones(3, requires_grad=True)) == told(torch.ones(3))
    block = np.arange(6.0).reshape(2, 3)
    assert told(np.asfortranarray(block)) == told(block)


@dataclass
class Thing:
    """Anything without content."""

    held: object


@pytest.mark.parametrize("value", [object(), {1, 2}, Thing(object()), np.array([None]), lambda: 0])
def test_what_has_no_content_is_refused(value):
    with pytest.raises(TypeError, match="no content that can be hashed"):
        told(value)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([10, content.WHOLE, content.WHOLE + 1, 5 * content.WHOLE]), st.floats(0, 0.999), st.booleans())
def test_a_file_that_was_replaced_is_another(tmp_path, size, at, in_place):
    """Same name, size and date: small files by their bytes, large ones by number or time of change too."""
    file = tmp_path / "x.wav"
    before = bytearray(size)
    file.write_bytes(before)
    os.utime(file, (1e9, 1e9))
    first = told(str(file), suffixes=(".wav",))
    assert told(str(file), suffixes=(".wav",)) == first
    before[int(at * size)] = 1
    if not in_place:
        file.rename(tmp_path / "old.wav")
    file.write_bytes(before)
    os.utime(file, (1e9, 1e9))
    assert told(str(file), suffixes=(".wav",)) != first


def test_a_moved_folder_has_the_same_content(tmp_path):
    places = [tmp_path / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
        (place / "a.wav").write_bytes(b"sound")
    found = {told(str(place / "a.wav"), suffixes=(".wav",)) for place in places}
    assert len(found) == 1
    assert told(str(places[0] / "a.wav")) != told(str(places[1] / "a.wav")), "a text, for all that is known"
    shutil.copy(places[0] / "a.wav", places[0] / "a.mp3")
    assert told(str(places[0] / "a.mp3"), suffixes=(".wav", ".mp3")) not in found
    with pytest.raises(TypeError, match="may name other files"):
        told({"points": str(places[0] / "a.wav")}, external_refs=(".wav",))


def _code(*classes):
    made = Content()
    made.add_code(*classes)
    return made.hexdigest()


def test_code_is_told_by_its_bytes(tmp_path, monkeypatch):
    """Those of parts in links, and of the classes that a tokenizer of one's own extends."""
    first = _code(metatx.Tokenizer)
    package = tmp_path / "metatx"
    shutil.copytree(content.Path(content.__file__).parents[1], package, symlinks=False)
    monkeypatch.setattr(content, "__file__", str(package / "data" / "content_hash.py"))
    assert _code(metatx.Tokenizer) == first, "moved, and with other dates"
    for name in ("tokenizers/image.py", "layers/views.py", "task.py"):
        source = (package / name).read_bytes()
        (package / name).write_bytes(source + b"\n")
        assert _code(metatx.Tokenizer) != first, name
        (package / name).write_bytes(source)
    assert _code(metatx.Tokenizer) == first

    for plugin in ("base", "own"):
        (tmp_path / f"{plugin}.py").write_text("class Base:\n    pass\n")
    (tmp_path / "own.py").write_text("from base import Base\n\n\nclass Own(Base):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own

    extended = _code(own.Own)
    (tmp_path / "base.py").write_text("class Base:\n    gain = 2\n")
    assert _code(own.Own) != extended
    (tmp_path / "own.py").unlink()
    with pytest.raises(TypeError, match="Own has no source file"):
        _code(own.Own)


def test_options_left_at_their_defaults_count(monkeypatch):
    from tests.conftest import WavesTokenizer

    given_, left = WavesTokenizer(8, noise=0.0), WavesTokenizer(8)
    assert options_of(given_) == options_of(left) != options_of(WavesTokenizer(8, noise=0.5))
    monkeypatch.setattr(WavesTokenizer.__init__, "__defaults__", (0.5,))
    assert options_of(WavesTokenizer(8)) != options_of(given_), "another default is another tokenizer"
    with pytest.raises(TypeError):
        options_of(WavesTokenizer(8, noise=object))


def test_data_are_told_by_what_they_hold_however_they_are_given(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", None]})
    folder = tmp_path / "data"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.txt").write_text("one")
    frame.to_csv(tmp_path / "t.csv", index=False)
    given_ = [str(folder), tmp_path / "t.csv", frame, ([1, 2], ["a", "b"]), {"train": ([1], [2])}]
    before = [content.source_content(data) for data in given_]
    assert len(set(before)) == len(before) and all(before)
    assert [content.source_content(data) for data in given_] == before
    (folder / "a" / "1.txt").write_text("two")
    (tmp_path / "t.csv").write_text("x,y\n")
    frame.loc[0, "x"] = 3.0
    given_[3] = ([1, 2], ["a", "c"])
    after = [content.source_content(data) for data in given_]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False] * 4 + [True]
    assert content.source_content("hf:imdb") == content.source_content(object()) == ""
