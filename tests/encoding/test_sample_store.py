"""EncodedDataset samples as columns: bit for bit what was put in, whatever the shapes."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.encoding import sample_store as columns
from metatx.encoding.sample_store import Columns

DTYPES = [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.bfloat16]
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def tensors(draw):
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES))
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    turned = values.to(dtype).movedim(0, -1) if shape else values.to(dtype)
    return turned


samples = st.lists(st.tuples(st.dictionaries(st.sampled_from("ab.c"), tensors(), min_size=1), tensors()), min_size=1)


def _same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


@settings(deadline=None, max_examples=60)
@given(samples, st.integers(1, 4))
def test_what_comes_out_is_what_went_in(put_in, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "ROWS", size)
        kept = Columns(1 << 30)
        for sample, target in put_in:
            kept.add(sample, target)
        kept.finish()
    assert kept.whole and kept.count == len(put_in)
    assert kept.get(len(put_in)) is None
    for position, (sample, target) in enumerate(put_in):
        found, wanted = kept.get(position)
        assert found.keys() == sample.keys() and _same(wanted, target)
        assert all(_same(found[name], sample[name]) for name in sample)


def _filled(room, values, targets=None):
    kept = Columns(room)
    for value, target in zip(values, targets or values, strict=True):
        kept.add({"x": torch.tensor([value, 0.0])}, torch.tensor(target))
    kept.finish()
    return kept


def test_beyond_the_room_nothing_is_kept_but_all_is_told_apart(monkeypatch):
    monkeypatch.setattr(columns, "ROWS", 4)
    values = [float(i) for i in range(20)]
    whole, part = _filled(1 << 20, values), _filled(100, values)
    assert whole.whole and not part.whole
    assert part.get(7) is not None and part.get(8) is None, "two blocks of four samples of 12 bytes"
    assert part.content == whole.content
    assert _filled(100, [*values[:-1], 7.0]).content != whole.content
    changed = _filled(100, values, [*values[:-1], 7.0]).content
    assert changed[0] == whole.content[0] and changed[1] != whole.content[1], "samples and targets apart"


def test_views_of_one_memory_are_copied():
    block, kept = torch.zeros(2, 1000), Columns(1 << 30)
    for row in (0, 0, 1):
        kept.add({"x": block[row, :1].expand(3)}, torch.tensor(0))
    kept.finish()
    block += 1
    assert kept.get(1)[0]["x"].tolist() == [0, 0, 0]
    assert kept.blocks[0].bytes == 3 * (3 * 4 + 8)


def test_they_can_be_sent_to_a_worker():
    kept = _filled(1 << 20, [1.0, 2.0])
    sent = pickle.loads(pickle.dumps(kept))
    assert sent.content == kept.content and sent.get(1)[0]["x"].tolist() == [2.0, 0.0]


def test_the_order_of_fields_does_not_change_the_content():
    sample = {"b": torch.ones(2), "a": torch.zeros(3)}
    contents = []
    for second in (sample, {"a": sample["a"], "b": sample["b"]}):
        kept = Columns(1 << 30)
        for fields in (sample, second):
            kept.add(fields, torch.tensor(1))
        kept.finish()
        contents.append(kept.content)
    assert contents[0] == contents[1]


def test_the_room_counts_all_that_is_kept_of_samples_that_differ_in_shape():
    kept = Columns(1 << 20)
    for length in (1, 3, 2):
        kept.add({"x": torch.zeros(length)}, torch.tensor(0))
    kept.finish()
    (block,) = kept.blocks
    tensors = [value for column in (*block.fields.values(), block.targets) for value in vars(column).values()]
    held = sum(tensor.untyped_storage().nbytes() for tensor in tensors if tensor is not None)
    assert block.bytes == held == (1 << 20) - kept.room
