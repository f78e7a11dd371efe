"""What is built from options takes no more memory than the weights that belong to it."""

import pytest
import torch
from torch import nn

from metatx.disk.building import SPARE, Building, check_shapes
from metatx.errors import TaskError


def test_what_fits_is_built_as_without():
    torch.manual_seed(0)
    plain = nn.Linear(8, 8)
    torch.manual_seed(0)
    with Building(0, "task"):
        built = nn.Linear(8, 8)
        nn.init.orthogonal_(built.weight)
    assert torch.equal(built.bias, plain.bias) and built.weight.device.type == "cpu"


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(10**6, 10**6),
        lambda: torch.randn(10**6, 10**6),
        lambda: torch.zeros(10**12),
        lambda: torch.arange(10**12),
        lambda: torch.eye(10**6),
        lambda: torch.ones(10**6)[:, None] * torch.ones(10**6),
        lambda: nn.Linear(10**6, 10**6),
        lambda: nn.Embedding(10**9, 10**3),
        lambda: nn.ModuleList(nn.Linear(500, 500) for _ in range(10**6)),
    ],
)
def test_more_than_that_is_refused_before_it_is_made(make):
    with pytest.raises(TaskError, match="its options ask for more than 67 MB"), Building(0, "task"):
        make()


def test_the_larger_the_weights_the_more_may_be_made():
    with Building(SPARE, "task"):
        torch.empty(2 * SPARE, dtype=torch.uint8)


def test_other_shapes_are_named():
    wanted = {"a": torch.zeros(2), "b": torch.zeros(3)}
    check_shapes({"a": (2,), "b": (3,)}, wanted, "task")
    for found, message in (
        ({"a": (2,)}, "b is missing, not"),
        ({"a": (2,), "b": (4,)}, r"b is \(4,\), not \(3,\)"),
        ({"a": (2,), "b": (3,), "c": (1,)}, r"c is \(1,\), not known here"),
    ):
        with pytest.raises(TaskError, match=message):
            check_shapes(found, wanted, "task")
