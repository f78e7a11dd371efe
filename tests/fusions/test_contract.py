"""Every fusion that ships keeps its contract: one row of the table each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx.adapters.lora import LoraOptions, lora_adapter, norm_adapter
from metatx.backbone.exchange import MixedExchange
from metatx.sequence import concatenate, divide
from tests.adapters.trained import scramble
from tests.fusions.meetings import (
    BATCH,
    CASES,
    CONFIGS,
    FUSIONS,
    INPUTS,
    backbone,
    batch,
    built,
    fused,
    passed,
    samples_of,
    trained,
)

BACKBONE = backbone()
EVERY = pytest.mark.parametrize(("name", "options"), CASES)
ONCE = pytest.mark.parametrize("name", FUSIONS)


def test_everything_that_ships_has_a_row() -> None:
    assert sorted(FUSIONS) == metatx.names("fusions")


def assert_close(found, wanted, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@EVERY
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_the_first_step_is_that_of_the_task_without_what_is_trained(name, options, config) -> None:
    base = backbone(config)
    fusion = built(name, base, **options)
    late = built("late", base)
    row = FUSIONS[name]
    wanted = late.leave(late.pool(row.first(base, fusion, batch()))).embeddings.unflatten(0, (-1, 2))
    assert_close(fused(fusion, base, batch()), wanted, row.tolerance)


@EVERY
@torch.no_grad()
def test_a_product_changes_nothing_at_first(name, options) -> None:
    without = built(name, BACKBONE, **options)
    product = built(name, BACKBONE, product=8, **options)
    product.load_state_dict(without.state_dict(), strict=False)
    assert torch.equal(fused(product, BACKBONE, batch()), fused(without, BACKBONE, batch()))


@EVERY
def test_one_step_of_training_changes_the_answer(name, options) -> None:
    fusion = built(name, BACKBONE, product=4, **options)
    first = {key: value.clone() for key, value in fusion.state_dict().items()}
    before = fused(fusion, BACKBONE, batch()).detach()
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=1e-2)
    torch.nn.functional.mse_loss(fused(fusion, BACKBONE, batch()), torch.randn_like(before)).backward()
    optimizer.step()
    after = fused(fusion, BACKBONE, batch()).detach()
    assert (after - before).abs().max() > 1e-3
    common = set(built("late", BACKBONE, product=4).state_dict()) | {"marks"}
    if set(first) - common:  # what this fusion alone trains has a part in it
        fusion.load_state_dict({key: first[key] for key in first if key not in common}, strict=False)
        assert (after - fused(fusion, BACKBONE, batch())).abs().max() > 1e-5


SIZES = st.lists(
    st.lists(st.lists(st.integers(1, 5), max_size=2), min_size=3, max_size=3).filter(any), min_size=1, max_size=5
)


@EVERY
@settings(deadline=None, max_examples=10)
@given(sizes=SIZES, config=st.sampled_from(sorted(CONFIGS)), layers=st.integers(1, 2))
@torch.no_grad()
def test_a_sample_does_not_depend_on_its_neighbours(name, options, sizes, config, layers) -> None:
    base = backbone(config)
    fusion = trained(name, base, **options)
    together = fused(fusion, base, batch(sizes), layers)
    alone = [fused(fusion, base, sample, layers) for sample in samples_of(batch(sizes))]
    assert together.shape == (len(sizes), 2, layers * 32)
    assert_close(together, torch.cat(alone))


@EVERY
@torch.no_grad()
def test_a_damaged_sample_spoils_no_other(name, options) -> None:
    fusion = trained(name, BACKBONE, **options)
    sequence = batch()
    tokens = sequence.embeddings.clone()
    tokens[0] = torch.nan
    found = fused(fusion, BACKBONE, sequence.with_embeddings(tokens))
    assert found[0].isnan().all()
    assert_close(found[1:], fused(fusion, BACKBONE, sequence)[1:])


@EVERY
@torch.no_grad()
def test_every_input_matters_to_the_fused_vector(name, options) -> None:
    fusion = trained(name, BACKBONE, **options)
    sequence = batch(BATCH[:1])
    before = fused(fusion, BACKBONE, sequence)
    for part in INPUTS:
        tokens = torch.cat(
            [
                rows + 2.0 * torch.randn_like(rows) * (source == part)
                for rows, source in zip(sequence.embeddings.split(sequence.lengths), sequence.sources, strict=True)
            ]
        )
        assert (fused(fusion, BACKBONE, sequence.with_embeddings(tokens)) - before).abs().max() > 1e-4, part


@EVERY
@torch.no_grad()
def test_the_order_of_inputs_does_not_matter(name, options) -> None:
    fusion = trained(name, BACKBONE, **options)
    order = [2, 0, 1]
    other = built(name, BACKBONE, [INPUTS[at] for at in order], product=4, **options)
    weights = dict(fusion.state_dict())
    for key, value in fusion.state_dict().items():
        if key in ("marks", "gates") and len(value) == len(INPUTS):  # a row each input
            weights[key] = value[order]
        if key == "mix.weight":
            weights[key] = value.unflatten(1, (len(INPUTS), -1))[:, order].flatten(1)
        if key.startswith(("factors.", "factor_norms.")):
            part, at, leaf = key.split(".", 2)
            weights[f"{part}.{order.index(int(at))}.{leaf}"] = value
    other.load_state_dict(weights)
    wanted = fused(fusion, BACKBONE, batch())
    found = torch.cat([fused(other, BACKBONE, reordered(sample, order)) for sample in samples_of(batch())])
    assert_close(found, wanted)


def reordered(sample, order):
    """The sample with its inputs in another order."""
    rows = sample.embeddings.split(sample.lengths)
    names = [INPUTS[at] for at in order]
    turned = sorted(range(len(rows)), key=lambda at: names.index(sample.sources[at]))
    return metatx.TokenSequence(
        torch.cat([rows[at] for at in turned]),
        tuple(sample.lengths[at] for at in turned),
        sequences_per_sample=sample.sequences_per_sample,
        sources=tuple(sample.sources[at] for at in turned),
    )


@ONCE
@pytest.mark.parametrize("tune", ["norm", "lora"])
@torch.no_grad()
def test_with_an_adapter(name, tune) -> None:
    adapter = norm_adapter(BACKBONE) if tune == "norm" else lora_adapter(BACKBONE, LoraOptions(r=2))
    scramble(adapter)
    fusion = trained(name, BACKBONE)
    found = fused(fusion, BACKBONE, batch(), adapter=adapter)
    assert (found - fused(fusion, BACKBONE, batch())).abs().max() > 1e-3
    assert_close(found, torch.cat([fused(fusion, BACKBONE, sample, adapter=adapter) for sample in samples_of(batch())]))


@ONCE
@torch.no_grad()
def test_one_input_is_read_as_by_the_backbone_alone(name) -> None:
    sequence = batch([[[5], [], []], [[2, 3], [], []]])
    fusion = built(name, BACKBONE, ["photo"], "photo")
    assert not list(fusion.parameters())
    output = BACKBONE(sequence)
    assert torch.equal(fused(fusion, BACKBONE, sequence), torch.stack([output.cls(), output.mean()], dim=1))


@ONCE
@torch.no_grad()
def test_without_blocks_only_what_is_pooled_is_fused(name) -> None:
    base = BACKBONE.without_blocks()
    fusion = trained(name, base)
    wanted = fusion.leave(fusion.pool(base(fusion.enter(batch())))).embeddings.unflatten(0, (-1, 2))
    late = trained("late", base)
    assert set(fusion.state_dict()) - {"marks"} == set(late.state_dict())
    assert torch.equal(fused(fusion, base, batch()), wanted)


@ONCE
def test_in_bf16(name) -> None:
    fusion = trained(name, BACKBONE)
    wanted = fused(fusion, BACKBONE, batch())
    with torch.autocast("cpu", torch.bfloat16):
        found = fused(fusion, BACKBONE, batch())
    found.float().square().mean().backward()
    assert_close(found.float(), wanted, 0.2)
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in fusion.parameters())


@ONCE
def test_inputs_are_left_out_in_training(name) -> None:
    fusion = trained(name, BACKBONE, dropout=0.9).train()
    sequence = batch()
    found = torch.stack([fused(fusion, BACKBONE, sequence).detach() for _ in range(6)])
    assert found.isfinite().all()
    assert found.std(0)[0].max() > 1e-3, "what is left out varies"
    assert found.std(0)[2].max() < 1e-5, "a sample of one input keeps it"


@ONCE
@torch.no_grad()
def test_tokens_of_the_main_input_for_heads_that_read_each(name) -> None:
    fusion = trained(name, BACKBONE)
    sequence = batch(BATCH[:2])
    main = fusion.of_main(passed(fusion, BACKBONE, sequence))
    assert main.lengths == (4, 3, 5), "CLS and the tokens of the words"


@torch.no_grad()
def test_all_fusions_share_a_pass() -> None:
    parts = []
    exchanges = []
    for number, (name, options) in enumerate(CASES):
        fusion = trained(name, BACKBONE, **options)
        parts.append(fusion.enter(batch(seed=number)))
        exchanges.append(fusion)
    mixed = MixedExchange.of(exchanges, parts)
    output = BACKBONE(concatenate(parts), exchange=mixed)
    for number, (fusion, part) in enumerate(zip(exchanges, divide(output, parts), strict=True)):
        found = fusion.leave(fusion.pool(part)).embeddings.unflatten(0, (-1, 2))
        assert_close(found, fused(fusion, BACKBONE, batch(seed=number)))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mid", {"at": 5}, "at is 5.*0 to 4"),
        ("bottleneck", {"at": -1}, "at is -1.*0 to 4"),
        ("bottleneck", {"tokens": 0}, "tokens is 0"),
        ("coattention", {"every": 0}, "every is 0.*1 to 4"),
        ("gated", {"every": 5}, "every is 5.*1 to 4"),
        ("gated", {"latents": 0}, "latents is 0"),
    ],
)
def test_options_that_cannot_be(name, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        built(name, BACKBONE, **options)


@pytest.mark.parametrize("name", ["early", "mid", "coattention"])
def test_samples_whose_inputs_are_too_long_together(name) -> None:
    fusion = built(name, BACKBONE, max_tokens=10)
    fusion.enter(batch(BATCH[1:]))
    with pytest.raises(ValueError, match=r"11 tokens together \(photo 5, words 5, facts 1\)"):
        fusion.enter(batch())
