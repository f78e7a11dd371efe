"""check_inputs: fusions that ship pass, and each way to break the contract is caught by its own check."""

import pytest
import torch

import metatx
from metatx.inputs.inputs import Inputs
from metatx.testing import check_inputs
from tests.several import MODALITIES, labels, samples, several

NAMES = ("photo", "words", "facts")
SAMPLES = samples(3, seed=3)


class ReadsTheMainInput(metatx.Fusion):
    """The others are pooled and left out."""

    def leave(self, pooled):
        return super().leave(pooled[:, [self.inputs.index(self.main)] * len(self.inputs)])


class MeansOverTheBatch(metatx.Fusion):
    def pool(self, sequence):
        pooled = super().pool(sequence)
        shift = pooled[..., :-1].mean(0, keepdim=True)
        return torch.cat([pooled[..., :-1] - 0.5 * shift, pooled[..., -1:]], dim=2)


class WeighsByPlace(metatx.Fusion):
    def untrained(self, tokens, share):
        places = torch.arange(1, tokens.shape[1] + 1, dtype=tokens.dtype)[:, None, None, None]
        return (tokens * share * places).sum(1)


class StartsAtRandom(metatx.Fusion):
    def build(self, **facts):
        super().build(**facts)
        torch.nn.init.normal_(self.mix.weight)


class Filling(Inputs):
    """A stand-in takes the place of a missing input."""

    def values(self, sample):
        return {**{name: SAMPLES[0][name] for name in self.inputs}, **super().values(sample)}


def _task(fusion, cls=None, names=NAMES, **choices):
    if cls is not None:
        metatx.register_fusion(fusion)(cls)
    return several(names, said=False, fusion=fusion, **choices)


@pytest.mark.parametrize("fusion", metatx.names("fusions"))
@pytest.mark.parametrize("product", [0, 4])
def test_every_fusion_passes(fusion, product):
    task = _task(fusion, names=tuple(MODALITIES), fusion_options={"product": product}, main="words")
    before = {name: weight.clone() for name, weight in task.state_dict().items()}
    check_inputs(task, SAMPLES)
    assert all(torch.equal(weight, before[name]) for name, weight in task.state_dict().items())


def test_a_head_that_reads_the_main_input_alone_passes():
    photos = [{name: sample[name] for name in NAMES} for sample in samples(4)]
    masks = [(photo["photo"][..., 0] > 128).astype(int) for photo in photos]
    photo = metatx.Input(name="photo", modality="image", options={"image_size": [16, 16]})
    inputs = [photo, metatx.Input(name="words", modality="text"), metatx.Input(name="facts", modality="tabular")]
    backbone = several(("words", "facts")).backbone
    choices = {"head": "segmentation", "head_options": {"layers": 1}, "fusion": "early"}
    check_inputs(metatx.Task.from_data(backbone, inputs, (photos, masks), **choices), photos)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (ReadsTheMainInput, "check_every_input_matters: words of one sample in the place of another"),
        (MeansOverTheBatch, "check_neighbours_do_not_matter: sample 0 is read otherwise among others"),
        (WeighsByPlace, "check_the_order_of_inputs_does_not_matter"),
        (StartsAtRandom, "check_the_order_of_inputs_does_not_matter"),
    ],
)
def test_a_broken_fusion_fails_its_check(cls, said):
    with pytest.raises(AssertionError, match=f"{cls.__name__} fails {said}"):
        check_inputs(_task("broken", cls), SAMPLES)


def test_a_stand_in_for_a_missing_input_fails():
    task = _task("early")
    task.tokenizer.__class__ = Filling
    with pytest.raises(AssertionError, match="check_a_missing_input_is_dropped: sample 0 with photo None is encoded"):
        check_inputs(task, SAMPLES)


def test_samples_must_differ_in_every_input():
    alike = [replace_photo(sample) for sample in SAMPLES]
    with pytest.raises(AssertionError, match="all samples have the same photo"):
        check_inputs(_task("late"), alike)
    with pytest.raises(AssertionError, match="sample 1 has no words"):
        check_inputs(_task("late"), [SAMPLES[0], {name: SAMPLES[1][name] for name in ("photo", "facts")}])


def replace_photo(sample):
    return {**sample, "photo": SAMPLES[0]["photo"]}


def test_what_it_needs():
    with pytest.raises(ValueError, match="needs two or more samples that differ, not 1"):
        check_inputs(_task("late"), SAMPLES[:1])
    with pytest.raises(ValueError, match="needs a task of several inputs"):
        check_inputs(_task("late", names=("words",)), SAMPLES)
    plain = metatx.Task.from_data(_task("late").backbone, "text", (["a", "b"] * 2, labels(4)))
    with pytest.raises(ValueError, match="this one reads text alone"):
        check_inputs(plain, ["a", "b"])
