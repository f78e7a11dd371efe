"""Every tokenizer that ships keeps its contract: one row of the table each."""

import numpy as np
import pytest
from PIL import Image

from metatx import registry
from metatx.testing import check_tokenizer
from tests.samples import TOKENIZERS, films, graphs, pictures, shipped, small_stem

TOKENIZER_CASES = [(name, options) for name, row in TOKENIZERS.items() for options in row.options]


def test_everything_that_ships_has_a_row():
    assert sorted(TOKENIZERS) == shipped("tokenizers")


@pytest.mark.parametrize(("name", "options"), TOKENIZER_CASES)
def test_tokenizer_keeps_the_contract(name, options):
    row = TOKENIZERS[name]
    cls = registry.lookup("tokenizers", name)
    stem = small_stem() if cls.stem == "image" else None
    check_tokenizer(cls, row.samples, bad_samples=row.bad_samples, options=options, stem=stem)


@pytest.mark.parametrize("name", ["image", "infrared", "video", "xray"])
def test_a_tokenizer_of_its_own_stem_keeps_the_contract(name):
    samples = films() if name == "video" else pictures()
    check_tokenizer(registry.lookup("tokenizers", name), samples, options={"image_size": 32})


@pytest.mark.parametrize("options", [{}, {"directed": True}])
def test_a_tokenizer_of_graphs_as_arrays_keeps_the_contract(options):
    bad = [{}, "CCO", {**graphs()[0], "edge_index": [[0], [99]]}, {**graphs()[0], "x": np.full((3, 3), np.nan)}]
    check_tokenizer(registry.lookup("tokenizers", "graph"), graphs(), bad_samples=bad, options=options)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_a_sample_is_shown_as_a_picture_as_sound_or_as_words(name):
    cls = registry.lookup("tokenizers", name)
    for sample in TOKENIZERS[name].samples:
        shown = cls.preview(sample)
        if isinstance(shown, tuple):
            values, rate = shown
            assert values.ndim == 1 and values.dtype == np.float32 and rate > 0
        else:
            assert isinstance(shown, Image.Image) or (isinstance(shown, str) and shown)
