"""Explanations: scores that say what a made-up answer depends on, a test that refuses others, pictures of all kinds."""

import datasets
import numpy as np
import pytest
import torch

import metatx
from metatx.encoding.head_choice import build_tokenizer
from metatx.explaining.attribution import Deletion, Scorer, deletion, occlusion
from tests.conftest import waves
from tests.samples import TOKENIZERS


@pytest.fixture(scope="module")
def spotted(nano):
    """Task whose label is ``up`` if the third of twelve stretches of a signal is high, else ``down``."""
    signals = list(np.random.default_rng(5).normal(size=(160, 3, 120)).astype(np.float32))
    for at, signal in enumerate(signals):
        signal[:, 20:30] += 4 if at % 2 else -4
    labels = ["up" if at % 2 else "down" for at in range(len(signals))]
    task = metatx.Task.from_data(nano, "waves", (signals, labels), head_options={"pooling": "mean"})
    return task.fit((signals, labels), epochs=6, lr=3e-3, precision="fp32"), signals


def test_what_decides_has_the_highest_score(spotted):
    task, signals = spotted
    explanation = metatx.explain(task, signals[1])
    assert explanation.target == "up" and explanation.scores.argmax() == 2
    assert explanation.top(1)[0][0] == "token 3" and explanation.deletion.believable
    against = metatx.explain(task, signals[1], target="down")
    np.testing.assert_allclose(against.scores, -explanation.scores, rtol=1e-3, atol=1e-3)


def test_integrated_gradients_sum_to_the_difference_from_the_mean(spotted):
    task, signals = spotted
    explanation = metatx.explain(task, signals[1], method="integrated_gradients")
    with torch.no_grad():
        scorer = Scorer(task.model, task.tokens({"signal": torch.as_tensor(signals[1])[None]}))
        tokens = scorer.sequence.embeddings
        at_mean = scorer.of_embeddings(tokens.mean(0).expand(1, *tokens.shape)).item()
    assert explanation.scores.sum() == pytest.approx(explanation.score - at_mean, rel=0.05, abs=0.02)


def test_deletion_refuses_scores_that_are_wrong(spotted):
    task, signals = spotted
    with torch.no_grad():
        scorer = Scorer(task.model, task.tokens({"signal": torch.as_tensor(signals[1])[None]}))
    scores = occlusion(scorer)
    assert deletion(scorer, scores).believable and not deletion(scorer, -scores).believable


def test_a_flat_curve_is_not_believed():
    flat = np.ones(5)
    assert not Deletion(np.linspace(0, 1, 5), flat, np.ones((19, 5))).believable


def test_a_number_and_labels_are_explained_too(nano):
    signals, labels = waves(60)
    numbers = (signals, [float(np.abs(signal).mean()) for signal in signals])
    task = metatx.Task.from_data(nano, "waves", numbers, head="regression").fit(numbers, epochs=2)
    assert metatx.explain(task, signals[0]).target is None
    several = (signals, [[label] for label in labels])
    task = metatx.Task.from_data(nano, "waves", several, head="multilabel").fit(several, epochs=2)
    assert metatx.explain(task, signals[0]).target in ("loud", "quiet")
    with pytest.raises(ValueError, match="loud"):
        metatx.explain(task, signals[0], target="lou")


def test_answers_without_a_score_are_refused(nano):
    task = metatx.Task.from_data(nano, "waves", waves(20), head="embedding")
    with pytest.raises(TypeError, match="no single score"):
        metatx.explain(task, waves(1)[0][0])


def test_several_inputs_are_explained_side_by_side(nano, tmp_path):
    rows = [{"size": float(at), "words": f"number {at}", "kind": "yes" if at > 15 else "no"} for at in range(30)]
    inputs = {"facts": metatx.Input(name="facts", modality="tabular", columns=("size",)), "words": "text"}
    train = {name: [row[name] for row in rows] for name in rows[0]}
    task = metatx.Task.from_data(nano, inputs, datasets.Dataset.from_dict(train), target="kind", fusion="bottleneck")
    explanation = metatx.explain(task, {"size": 3.0, "words": "number 3"})
    assert [name for name in explanation.places.names][0] == "facts: size"
    assert len(explanation.scores) == 1 + len([name for name in explanation.places.names if name.startswith("words")])
    pytest.importorskip("matplotlib")
    assert explanation.write(tmp_path / "why.png").stat().st_size > 1000


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_places_of_every_modality_are_drawn(name, nano):
    """A picture has as many patches of colour as the tokenizer names, and the drawing takes any scores."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    row = TOKENIZERS[name]
    tokenizer = build_tokenizer(name, nano, {}).learn(row.samples)
    for sample in row.samples[:3]:
        places = tokenizer.token_places(sample)
        figure = Figure(figsize=places.size)
        axes = figure.subplots()
        places.draw(axes, np.linspace(-1, 1, len(places.names)))
        assert axes.has_data() or axes.texts
