"""Clouds to groups and distributions: what changes the tokens, what must not, and refusal of what is no cloud."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx import SampleError, create
from metatx.cli import main
from metatx.encoding.collate import collate
from metatx.reading.point_cloud import Cloud

DIM = 48
SMALL = {"groups": 8, "neighbours": 6, "width": 16, "points": 100}
NAMES = ("x", "y", "z", "speed", "t")
seeds = st.integers(0, 10_000)


def cloud(points=60, columns=5, seed=0):
    """A cloud as wide as it is high, 30 away from the origin."""
    return np.random.default_rng(seed).normal(size=(points, columns)) + 30


def fitted(columns=5, **options):
    torch.manual_seed(0)
    tokenizer = create("tokenizers", "point_cloud", DIM, **{**SMALL, **options})
    return tokenizer.learn([cloud(40 + 5 * seed, columns, seed) for seed in range(12)]).eval()


@torch.no_grad()
def tokens(tokenizer, *samples):
    return tokenizer(collate([tokenizer.encode(sample) for sample in samples])).embeddings


def changed(tokenizer):
    """The tokenizer after some training: nothing is zero any more."""
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return tokenizer


EVERYTHING = {"time": 4, "slices": 3, "normalize": "training"}


# What changes nothing


@given(seeds, st.sampled_from([3, 30, 100, 250]), st.sampled_from([{}, EVERYTHING, {"slices": 1}]))
@settings(max_examples=20, deadline=None)
def test_the_order_of_points_changes_nothing(seed, count, options):
    tokenizer, points = changed(fitted(**options)), cloud(count, seed=seed).round(1)  # some distances are equal
    other = points[np.random.default_rng(seed).permutation(count)]
    torch.testing.assert_close(tokens(tokenizer, other), tokens(tokenizer, points), atol=1e-5, rtol=0)


@given(seeds, st.floats(-100, 100), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_place_and_size_change_nothing_in_the_unit_sphere(seed, shift, scale):
    tokenizer, points = changed(fitted(columns=3, slices=1)), cloud(70, 3, seed)
    moved = scale * points + [shift, -shift, 2 * shift]
    encoded = tokenizer.encode(points)["points"]
    assert encoded.norm(dim=1).max() == pytest.approx(1) and encoded.mean(0).abs().max() < 1e-6
    torch.testing.assert_close(tokens(tokenizer, moved), tokens(tokenizer, points), atol=1e-4, rtol=0)
    metric = fitted(columns=3, normalize="training")
    assert (tokens(metric, moved + 1) - tokens(metric, points)).abs().max() > 0.01


@given(st.lists(st.integers(1, 150), min_size=2, max_size=5), st.sampled_from([{}, EVERYTHING]))
@settings(max_examples=15, deadline=None)
def test_the_batch_changes_nothing(counts, options):
    tokenizer = changed(fitted(**options))
    samples = [cloud(count, seed=i) for i, count in enumerate(counts)]
    alone = torch.cat([tokens(tokenizer, sample) for sample in samples])
    torch.testing.assert_close(tokens(tokenizer, *samples), alone, atol=1e-5, rtol=0)


@given(seeds, st.sampled_from([{}, {"slices": 1}]))
@settings(max_examples=10, deadline=None)
def test_further_columns_change_nothing_at_the_start(seed, options):
    tokenizer, points = fitted(**options), cloud(seed=seed)
    other = np.hstack([points[:, :3], cloud(seed=seed + 1)[:, 3:]])
    torch.testing.assert_close(tokens(tokenizer, other), tokens(tokenizer, points), atol=1e-6, rtol=0)
    batch = collate([tokenizer.encode(points)])
    tokenizer(batch).embeddings.square().sum().backward()
    with torch.no_grad():
        for name, parameter in tokenizer.named_parameters():
            if "further" in name:
                assert not parameter.any()
                parameter -= 0.01 * parameter.grad
    assert (tokens(tokenizer, other) - tokens(tokenizer, points)).abs().max() > 1e-4


# Groups


def test_groups_are_near_in_time_too():
    points = np.concatenate([cloud(80, 4), cloud(80, 4)])
    points[:, 3] = np.repeat([0.0, 9.0], 80)  # the same places at two times
    apart = create("tokenizers", "point_cloud", DIM, **SMALL, time=3).learn([points])
    mixed = create("tokenizers", "point_cloud", DIM, **SMALL).learn([points])
    for tokenizer, together in ((apart, False), (mixed, True)):
        groups = tokenizer.encode(points)["groups"].numpy()
        assert any(len(set(points[group, 3])) == 2 for group in groups) == together
    assert apart.axes == [0, 1, 2, 3]


def test_large_clouds_are_drawn_from_always_alike():
    tokenizer, points = fitted(columns=3), cloud(5000, 3)
    first, second = tokenizer.encode(points), tokenizer.encode(points.copy())
    assert torch.equal(first["groups"], second["groups"]) and first["points"].shape == (5000, 3)
    assert len(first["groups"].unique()) <= 48
    everywhere = create("tokenizers", "point_cloud", DIM, **{**SMALL, "points": 5000}).learn([points])
    assert not torch.equal(everywhere.encode(points)["groups"], first["groups"])


def test_context_holds_centres_and_all_points_in_their_order():
    tokenizer = fitted(slices=1, time=4)
    same = tokenizer(collate([tokenizer.encode(cloud(300, seed=i)) for i in range(2)]))
    assert same.lengths == (2 + 8,) * 2
    assert same.context["centres"].shape == (2, 8, 3) and same.context["points"].shape == (2, 300, 3)
    expected = cloud(300, seed=1)[:, :3]
    expected = (expected - expected.mean(0)) / np.linalg.norm(expected - expected.mean(0), axis=1).max()
    np.testing.assert_allclose(same.context["points"][1], expected, atol=1e-6)
    for centres, points in zip(same.context["centres"].tolist(), same.context["points"].tolist(), strict=True):
        assert all(centre in points for centre in centres)
    ragged = tokenizer(collate([tokenizer.encode(cloud(count)) for count in (20, 300)]))
    assert [tuple(one.shape) for one in ragged.context["points"]] == [(20, 3), (300, 3)]
    assert ragged.context["centres"].shape == (2, 8, 3)


def test_an_empty_slice_is_no_number_out_of_range():
    tokenizer, points = fitted(**EVERYTHING), cloud()
    points[:, 4] = 30  # all at one time
    assert tokens(tokenizer, points).isfinite().all()


# Columns


def test_columns_are_found_by_name_or_number():
    points = cloud()
    whole = create("tokenizers", "point_cloud", DIM, **SMALL).learn([Cloud(points, NAMES)])
    assert whole.columns == list(NAMES)
    shuffled = Cloud(points[:, ::-1], NAMES[::-1])
    assert torch.equal(whole.encode(shuffled)["points"], whole.encode(Cloud(points, NAMES))["points"])
    assert torch.equal(whole.encode(points)["points"], whole.encode(Cloud(points, NAMES))["points"])
    for columns in (["x", "y", "z", "t"], [0, 1, 2, 4]):
        part = create("tokenizers", "point_cloud", DIM, **SMALL, columns=columns, time=columns[3]).learn([shuffled])
        if columns[0] == "x":
            assert part.encode(shuffled)["points"].shape == (60, 4)
    places = create("tokenizers", "point_cloud", DIM, **SMALL, columns=["x", "y", "z"]).learn([Cloud(points, NAMES)])
    assert places.further is None
    assert torch.equal(
        places.encode(points)["points"], places.encode(Cloud(points, NAMES))["points"]
    )  # the first three
    with pytest.raises(SampleError, match="column speed is missing; found x, y, z, nx, ny"):
        whole.encode(Cloud(points, ("x", "y", "z", "nx", "ny")))
    with pytest.raises(SampleError, match="column speed is missing; found 4 columns without names"):
        whole.encode(points[:, :4])
    with pytest.raises(SampleError, match="column 4 is missing; found 4 columns without names, counted from 0"):
        fitted().encode(points[:, :4])


def test_columns_of_tables_are_found():
    accepts = type(fitted()).accepts
    assert accepts("a.PLY") and accepts([[1, 2, 3]]) and accepts({"points": []}) and accepts(np.zeros((4, 3)))
    assert not any(accepts(value) for value in ("a.png", "word", 3, [1, 2], [], None, {"a": 1}, [[1, 2]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 0}, "points is 0; it must be at least 1"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"slices": -1}, "slices is -1; it must be at least 0"),
        ({"normalize": "cube"}, "expected one of 'unit', 'training'"),
        ({"columns": [0, 1]}, "expected x, y, z and what else"),
        ({"columns": [0, 1, 1]}, "each once"),
        ({"columns": [0, 1, 2, 3], "time": 2}, "none of the columns after z"),
        ({"augment": {"flip": 1}}, "augment has flip; it may have rotation"),
        ({"augment": {"mirror": 2}}, "mirror is 2"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        create("tokenizers", "point_cloud", DIM, **options)


# Odd clouds


@pytest.mark.parametrize("options", [{}, {**EVERYTHING}])
@pytest.mark.parametrize("points", [cloud(1), cloud(3), np.full((50, 5), 7.0), np.repeat(cloud(4), 20, axis=0)])
def test_few_and_equal_points_give_tokens(points, options):
    for tokenizer in (fitted(**options), create("tokenizers", "point_cloud", DIM, **SMALL, **options).learn([points])):
        found = tokens(tokenizer, points)
        assert found.shape == (8 + tokenizer.parts, DIM) and found.isfinite().all()
        described = tokenizer.baseline_features(points)
        assert np.isfinite(described).all()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (np.zeros((0, 5)), "no points"),
        (np.full((9, 5), np.nan), "point 1 is NaN or infinite in column 1"),
        (np.zeros((9, 2)), "2 columns; expected at least 3"),
        (None, "expected points"),
        ("nowhere.ply", "does not exist"),
    ],
)
def test_bad_samples_are_named(sample, message):
    with pytest.raises(SampleError, match=message):
        fitted().encode(sample)
    with pytest.raises(ValueError, match=f"No sample can be used; the first: .*{message}"):
        create("tokenizers", "point_cloud", DIM).learn([sample] * 3)


# Augmentation


def varied(seed=0, columns=3, **augment):
    tokenizer = fitted(columns=columns, augment=augment, normalize="training")
    encoded = tokenizer.encode(cloud(90, columns))
    torch.manual_seed(seed)
    return encoded, tokenizer.augment(encoded)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_a_turned_cloud_keeps_heights_and_distances(seed):
    before, after = (one["points"] for one in varied(seed, rotation=180.0))
    torch.testing.assert_close(after[:, 2], before[:, 2])
    apart = [(one[:, None] - one).norm(dim=2) for one in (before, after)]
    torch.testing.assert_close(*apart, atol=1e-5, rtol=1e-4)
    assert (after - before)[:, :2].abs().max() > 1e-4
    volumes = [torch.linalg.det(one[:3] - one[3]) for one in (before, after)]
    torch.testing.assert_close(*volumes, atol=1e-3, rtol=1e-3)  # turned, not mirrored


def test_mirroring_flips_one_axis_of_every_other_cloud():
    signs = []
    for seed in range(40):
        before, after = (one["points"] for one in varied(seed, mirror=1))
        signs.append((after[0, 1] / before[0, 1]).item())
        torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]])
    assert set(signs) == {1.0, -1.0} and 10 < signs.count(-1.0) < 30


def test_jitter_and_scale_are_as_large_as_asked_for():
    before, after = (one["points"] for one in varied(jitter=0.02))
    assert 0.015 < (after - before).std() < 0.025
    ratios = []
    for seed in range(30):
        before, after = (one["points"] for one in varied(seed, scale=0.2))
        ratio = after / before
        torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio), atol=1e-3, rtol=0)
        ratios.append(ratio[0, 0].item())
    assert 0.8 <= min(ratios) < 0.9 and 1.1 < max(ratios) <= 1.2


def test_dropped_points_are_replaced_by_kept_ones():
    gone = []
    for seed in range(20):
        before, after = varied(seed, dropout=0.5)
        kept = (after["points"] == before["points"]).all(1)
        gone.append(1 - kept.float().mean().item())
        assert kept[after["groups"].long()].all() and torch.equal(after["groups"][:, 0], before["groups"][:, 0])
        there = {tuple(row) for row in before["points"][kept].tolist()}
        assert {tuple(row) for row in after["points"].tolist()} == there
    assert 0.1 < np.mean(gone) < 0.35 and max(gone) > 0.3


def test_normals_turn_with_the_points():
    names = ("x", "y", "z", "nx", "ny", "nz")
    points = cloud(90, 6)
    points[:, 3:] = points[:, :3] - points[:, :3].mean(0)  # each points where its point lies from the middle
    tokenizer = create("tokenizers", "point_cloud", DIM, **SMALL, augment={"rotation": 90.0, "mirror": 0})
    tokenizer.learn([Cloud(points, names)])
    torch.manual_seed(3)
    values = tokenizer.augment(tokenizer.encode(Cloud(points, names)))["points"]
    normals = values[:, 3:].sinh() * tokenizer.spread[3:] + tokenizer.centre[3:]
    radius = np.linalg.norm(points[:, 3:], axis=1).max()
    torch.testing.assert_close(normals.float(), radius * values[:, :3], atol=1e-3, rtol=1e-3)


# On disk


def test_files_of_classes_are_trained_on_and_predicted(tmp_path, capsys):
    for split, count in (("train", 8), ("test", 3)):
        for label, stretch in (("ball", 1), ("rod", 5)):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                np.savetxt(folder / f"{i}.xyz", cloud(50, 3, i) * [stretch, 1, 1])
    options = "--tokenizer.groups 4 --tokenizer.neighbours 12 --epochs 4 --batch_size 4 --lr 0.003 --no-baseline"
    main(f"train {tmp_path}/data --modality point_cloud {options} --out {tmp_path}/out".split())
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.8
    capsys.readouterr()
    files = [str(tmp_path / "data" / "test" / label / "1.xyz") for label in ("ball", "rod")]
    main(["predict", str(tmp_path / "out" / "task"), *files])
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]] == ["ball", "rod"]


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [
        (1, lambda i: "ab"[i % 2], "sample"),
        (12, lambda i: "a", "the label 'a'; a classifier needs two or more"),
    ],
)
def test_too_little_to_learn_is_said(tmp_path, capsys, rows, label, message):
    np.savez(tmp_path / "data.npz", points=np.ones((rows, 9, 3)), label=[label(i) for i in range(rows)])
    with pytest.raises(SystemExit) as caught:
        main(f"train {tmp_path}/data.npz --modality point_cloud --epochs 1 --out {tmp_path}/out".split())
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and error.count("\n") == 1
