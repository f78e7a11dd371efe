"""Every fusion on every kind of backbone: an encoder of texts, a causal language model, a Vision Transformer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import metatx
from metatx.backbone.vit import VisionTransformer
from metatx.sequence import TokenSequence
from metatx.testing import check_inputs
from tests.backbone.language_models import write_model
from tests.fusions.meetings import FUSIONS, SHAPE, batch, built, fused, samples_of, trained
from tests.mixed_tasks import unlike_any
from tests.through import OTHER, WAY, samples

KINDS = ["bert", "llama", "vit"]
REFUSED = {"bottleneck", "coattention"}  # on a causal model
PAIRS = [(kind, name) for kind in KINDS for name in FUSIONS if kind != "llama" or name not in REFUSED]
EVERY = pytest.mark.parametrize(("kind", "name"), PAIRS)
ANSWERS = ["even", "odd"] * 4
ASKED = [*samples(4, seed=1), {"words": "a film"}, {"photo": samples()[0]["photo"]}]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> dict[str, metatx.Backbone]:
    place = tmp_path_factory.mktemp("models")
    loaded = {
        kind: metatx.load_backbone(f"transformers:{write_model(place / kind, kind, num_hidden_layers=4)}")
        for kind in ("bert", "llama")
    }
    return {**loaded, "vit": VisionTransformer(replace(SHAPE, dim=64), None, spec="vit")}


def task_of(backbone: metatx.Backbone, name: str, *, said: bool = True, bridge: str = "resampler", **choices):
    """A task whose photo comes over a bridge; none of its weights is at its start, unless ``said`` is False."""
    inputs = [
        metatx.Input(name="photo", modality="image", through={**WAY, "bridge": bridge}),
        metatx.Input(name="words", modality="text"),
    ]
    data = (samples(), ANSWERS)
    task = metatx.Task.from_data(
        backbone, inputs, data, main="words", fusion=name, others={"other": OTHER}, seed=3, **choices
    )
    return (unlike_any(task, 1) if said else task).set_inference(precision="fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_of_all_fusions_share_a_pass_and_answer_as_alone(backbones, kind) -> None:
    pool = metatx.TaskPool(backbones[kind], others={"other": OTHER})
    names = [name for of_kind, name in PAIRS if of_kind == kind]
    for number, name in enumerate(names):
        tune = ["frozen", "lora"][number % 2]
        pool.add(name, task_of(backbones[kind], name, tune=tune, bridge=["linear", "resampler"][number // 2 % 2]))
    asked = [(name, sample) for name in names for sample in ASKED]
    for (name, sample), vector in zip(asked, pool.embed(asked), strict=True):
        alone = pool.task(name).embed([sample])[0]
        np.testing.assert_allclose(vector, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for kind, name in PAIRS if kind == "llama"])
def test_tasks_on_a_causal_model_keep_the_contract(backbones, name) -> None:
    check_inputs(task_of(backbones["llama"], name, said=False), samples(3, seed=2))


@EVERY
def test_training_changes_what_is_trained_and_nothing_frozen(backbones, kind, name) -> None:
    before = backbones[kind].fingerprint, OTHER.fingerprint
    task = task_of(backbones[kind], name, said=False)
    first = task.predict_proba(ASKED)
    weights = {key: value.clone() for key, value in task.state_dict().items()}
    task.fit((samples(), ANSWERS), epochs=2, batch_size=4, lr=1e-2, warmup=0)
    assert np.abs(task.predict_proba(ASKED) - first).max() > 1e-3
    same = {key for key, value in task.state_dict().items() if torch.equal(value, weights[key])}
    bridge_or_fusion = [key for key in same if "through_photo.bridge" in key or key.startswith("fusion")]
    assert not bridge_or_fusion
    assert (backbones[kind].fingerprint, OTHER.fingerprint) == before
    assert all(weight.grad is None for weight in (*backbones[kind].parameters(), *OTHER.parameters()))


ZERO_STARTS = [
    (kind, name, options)
    for kind, name in PAIRS
    for options in FUSIONS[name].options
    if FUSIONS[name].tolerance == 0 and not (kind == "llama" and name in ("early", "mid"))
]


@pytest.mark.parametrize(("kind", "name", "options"), ZERO_STARTS)
@torch.no_grad()
def test_the_first_step_is_that_of_the_frozen_backbone_to_the_last_bit(backbones, kind, name, options) -> None:
    base = backbones[kind]
    fusion = placed(built(name, base, product=4, **options), base)
    late = built("late", base)
    sequence = wide(batch())
    wanted = late.leave(late.pool(FUSIONS[name].first(base, fusion, sequence))).embeddings.unflatten(0, (-1, 2))
    assert torch.equal(fused(fusion, base, sequence), wanted)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_hold_on_a_causal_model_is_refused_before_training(backbones, name) -> None:
    with pytest.raises(ValueError, match="a causal language model, a token reads only .* Choose --fusion early, gated"):
        task_of(backbones["llama"], name)


@torch.no_grad()
def test_joined_inputs_of_a_causal_model_are_one_text(backbones) -> None:
    causal = backbones["llama"]
    fusion = placed(built("early", causal), causal)
    sequence = wide(batch())
    found = fused(fusion, causal, sequence)
    for sample, tokens in zip(samples_of(sequence), found, strict=True):
        whole = causal(TokenSequence(sample.embeddings, (len(sample.embeddings),)))
        torch.testing.assert_close(tokens[0], whole.embeddings[-1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_mid_fusion_of_a_causal_model_is_two_stages(backbones) -> None:
    causal = backbones["llama"]
    fusion = placed(built("mid", causal, at=2), causal)
    sequence = wide(batch([[[5], [3], [2]]]))
    tokens = causal(fusion.enter(sequence)).embeddings
    kept = {}

    class Kept:
        blocks = (1,)

        def __call__(self, block, between):
            kept[block] = between.embeddings
            return between.embeddings

    causal(sequence, exchange=Kept())
    wanted = causal(TokenSequence(kept[1], (10,)), start=2)
    torch.testing.assert_close(tokens, wanted.embeddings, atol=1e-5, rtol=1e-4)


def placed(fusion: metatx.Fusion, backbone: metatx.Backbone) -> metatx.Fusion:
    """The fusion as a model on this backbone has it."""
    fusion.causal = backbone.causal
    return fusion


def wide(sequence: TokenSequence) -> TokenSequence:
    """The sequences with tokens of width 64."""
    return sequence.with_embeddings(torch.cat([sequence.embeddings, sequence.embeddings.flip(1)], dim=1))


@torch.no_grad()
def test_only_the_main_input_passes_the_blocks_if_the_others_stand_aside(backbones) -> None:
    fusion = trained("gated", backbones["vit"], aside=True, every=4)
    entered = fusion.enter(wide(batch()))
    assert entered.lengths == (3, 2, 4, 5, 3), "words, but for the sample that has none"
    passed = fusion.pool(backbones["vit"](entered, exchange=fusion))
    there = fusion.pool(backbones["vit"](wide(batch())))[..., -1]
    assert torch.equal(passed[..., -1], there), "all that is there is pooled"


def test_passes_in_threads_and_after_an_error_are_as_any_other(backbones, monkeypatch) -> None:
    causal = backbones["llama"]
    tasks = [task_of(causal, "gated", fusion_options={"every": 1 + at % 2}) for at in range(4)]
    wanted = [task.predict_proba(ASKED) for task in tasks]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in causal.modules()]
    with monkeypatch.context() as patch:
        patch.setattr(type(tasks[0].model.fusion), "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tasks[0].predict_proba(ASKED)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda at: tasks[at % 4].predict_proba(ASKED), range(12)))
    for at, probabilities in enumerate(found):
        np.testing.assert_allclose(probabilities, wanted[at % 4], atol=1e-5)
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in causal.modules()]


def test_joined_inputs_longer_than_the_context_are_refused(tmp_path) -> None:
    place = write_model(tmp_path / "short", "llama", max_position_embeddings=20)
    short = metatx.load_backbone(f"transformers:{place}")
    options = {"tokenizer_options": {"words": {"context": 16, "overlap": 4}}}
    task = task_of(short, "early", **options)
    task.predict([{"photo": ASKED[0]["photo"], "words": "so"}])
    with pytest.raises(metatx.SampleError, match="a sequence has .* tokens; .* reads at most 20"):
        task.predict([{"photo": ASKED[0]["photo"], "words": "a longer film"}])
    assert len(task_of(short, "gated", **options).predict(ASKED)) == 6
