"""EncodedDataset samples to batches."""

import resource

import pytest
import torch

from metatx.encoding.collate import collate, to_device
from metatx.training.batches import loader


class Ragged(torch.utils.data.Dataset):
    """Kept samples of different lengths, as ``EncodedDataset`` has them."""

    kept = tuple({"signal": torch.full((1 + n % 3,), n)} for n in range(600))

    def __getitems__(self, positions):
        return collate([self.kept[position] for position in positions])


def test_equal_shapes_are_stacked_and_ragged_ones_listed():
    samples = [{"signal": torch.full((3, n), float(n)), "code": torch.tensor(n)} for n in (4, 2)]
    batch = collate(samples)
    assert torch.equal(batch["code"], torch.tensor([4, 2]))
    assert isinstance(batch["signal"], list)
    assert all(torch.equal(found, sample["signal"]) for found, sample in zip(batch["signal"], samples, strict=True))
    stacked = collate(samples[:1] * 2)["signal"]
    assert torch.equal(stacked, torch.full((2, 3, 4), 4.0))


def test_types_are_kept():
    sample = {"image": torch.zeros(2, dtype=torch.uint8), "mask": torch.ones(2, dtype=torch.bool)}
    batch = collate([sample, sample])
    assert (batch["image"].dtype, batch["mask"].dtype) == (torch.uint8, torch.bool)


@pytest.mark.parametrize("other", [{"a": torch.zeros(1)}, {"a": torch.zeros(1), "c": torch.zeros(1)}])
def test_differing_fields_are_named(other):
    with pytest.raises(ValueError, match=r"differ in their fields: \['a', 'b'\] and"):
        collate([{"a": torch.zeros(1), "b": torch.zeros(1)}, other])


def test_everything_in_a_batch_moves():
    batch = {"stacked": torch.zeros(2, 3), "ragged": [torch.zeros(1), torch.zeros(2)]}
    moved = to_device(batch, torch.device("meta"))
    assert moved["stacked"].device.type == "meta"
    assert [tensor.device.type for tensor in moved["ragged"]] == ["meta", "meta"]
    assert to_device(torch.zeros(1), torch.device("meta")).device.type == "meta"
    assert batch["stacked"].device.type == "cpu"


def test_a_worker_keeps_no_file_open_for_what_it_sent():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, before[1]))
    try:
        batches = [list(range(start, start + 20)) for start in range(0, 600, 20)]
        found = [int(tensor[0]) for batch in loader(Ragged(), batches, workers=1) for tensor in batch["signal"]]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found == list(range(600))
