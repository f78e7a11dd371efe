"""scikit-learn's own checks of an estimator, and its tools around ours."""

import io
import pickle
import pickletools

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import metatx
from metatx.backbone.loading import save_backbone
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.sklearn import MetaTxClassifier, MetaTxEmbedder, MetaTxRegressor

QUICK = {"epochs": 6, "lr": 1e-2}
FP32 = {
    "check_methods_subset_invariance": "float32: beside other samples an answer differs in the last digits, by 1e-6",
    "check_methods_sample_order_invariance": "float32: in another order an answer differs in the last digits, by 1e-6",
}


@pytest.mark.parametrize("estimator", [MetaTxClassifier, MetaTxRegressor, MetaTxEmbedder])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_s_own_checks_pass(estimator, tmp_path) -> None:
    config = BackboneConfig(dim=32, depth=1, num_heads=2, mlp_dim=32)
    save_backbone(VisionTransformer(config, None, spec="small"), tmp_path / "small", about="random")
    model = estimator(backbone=str(tmp_path / "small"))
    if estimator is not MetaTxEmbedder:
        model.set_params(steps=60, lr=1e-2)
    found = check_estimator(model, expected_failed_checks=FP32, on_skip=None)
    statuses = [each["status"] for each in found]
    assert statuses.count("passed") > 40 and "failed" not in statuses


@pytest.fixture(scope="module")
def houses():
    """Rows of a number with gaps, a kind and words; the price follows from the first two."""
    rng = np.random.default_rng(0)
    rooms = rng.integers(1, 7, 120).astype(float)
    kind = rng.choice(["flat", "house"], 120)
    price = rooms + 3 * (kind == "house")
    words = np.where(kind == "house", "a green garden", "fourth floor")
    rooms[::17] = np.nan
    return pd.DataFrame({"rooms": rooms, "kind": kind, "words": words, "target": price, "price": price})


def test_tables_with_kinds_and_gaps_and_any_names(houses) -> None:
    columns = houses[["rooms", "kind"]].rename(columns={"rooms": "target"})
    model = MetaTxRegressor(epochs=20, lr=1e-2).fit(columns, houses.price)
    assert model.score(columns, houses.price) > 0.8
    assert list(model.feature_names_in_) == ["target", "kind"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(columns[["kind"]])


def test_search_validation_and_pipeline(houses) -> None:
    model = make_pipeline(StandardScaler(), MetaTxClassifier(**QUICK))
    table = houses[["rooms"]]
    labels = np.where(houses.price > 5, "dear", "cheap")
    assert cross_val_score(model, table, labels, cv=2).mean() > 0.6
    search = GridSearchCV(model, {"metatxclassifier__lr": [1e-6, 1e-2]}, cv=2, n_jobs=1).fit(table, labels)
    assert search.best_params_ == {"metatxclassifier__lr": 1e-2}
    assert set(search.predict(table)) == {"dear", "cheap"}


def test_columns_of_other_modalities(houses) -> None:
    transform = ColumnTransformer([("words", MetaTxEmbedder("text"), "words"), ("rest", "passthrough", ["price"])])
    transform.set_output(transform="pandas")
    found = transform.fit_transform(houses)
    assert found.shape == (120, 193) and found.columns[0] == "words__metatxembedder0"
    probe = make_pipeline(MetaTxEmbedder("text"), LogisticRegression()).fit(houses.words, houses.kind)
    assert probe.score(houses.words, houses.kind) == 1


@pytest.mark.parametrize("form", [list, np.asarray])
def test_raw_samples(form) -> None:
    pictures = form(load_digits().images[:60] / 16)
    labels = load_digits().target[:60] % 2
    model = MetaTxClassifier("image", **QUICK).fit(pictures, labels)
    assert model.score(pictures, labels) > 0.7
    assert model.predict(pictures[:3]).dtype == labels.dtype


def test_several_inputs(houses) -> None:
    facts = metatx.Input(name="facts", modality="tabular", columns="rooms,kind")
    model = MetaTxClassifier({"words": "text", "facts": facts}, spec={"fusion": "late"}, **QUICK)
    columns = houses[["rooms", "kind", "words"]]
    assert clone(model).fit(columns, houses.kind).score(columns, houses.kind) > 0.9


@pytest.mark.parametrize("kept", [True, False])
def test_a_pickle_holds_the_place_or_the_files_of_the_task(houses, tmp_path, kept) -> None:
    folder = tmp_path / "task" if kept else None
    model = MetaTxClassifier(folder=folder, **QUICK).fit(houses[["rooms", "kind"]], houses.kind)
    file = io.BytesIO()
    joblib.dump(model, file)
    names = " ".join(str(value) for _, value, _ in pickletools.genops(file.getvalue()) if isinstance(value, str))
    assert "torch" not in names and len(file.getvalue()) < (5_000 if kept else 2_000_000)
    file.seek(0)
    again = joblib.load(file)
    table = houses[["rooms", "kind"]]
    np.testing.assert_array_equal(again.predict_proba(table), model.predict_proba(table))
    assert clone(again).get_params() == model.get_params()


def test_a_folder_with_another_task_is_not_taken_for_the_pickled_one(houses, tmp_path) -> None:
    table = houses[["rooms", "kind"]]
    pickled = pickle.dumps(MetaTxClassifier(folder=tmp_path / "task", epochs=1).fit(table, houses.kind))
    MetaTxClassifier(folder=tmp_path / "task", epochs=1).fit(table, houses.price > 5)
    with pytest.raises(ValueError, match="holds another task than the one that this estimator was pickled with"):
        pickle.loads(pickled)


def test_without_a_fit_nothing_is_answered() -> None:
    for ask in (MetaTxClassifier().predict, MetaTxRegressor().predict, MetaTxEmbedder().transform):
        with pytest.raises(NotFittedError):
            ask([[1.0]])


def test_no_epoch_is_told_unless_asked(houses, caplog) -> None:
    for verbose in (False, True):
        MetaTxClassifier(epochs=1, verbose=verbose).fit(houses[["rooms"]], houses.kind)
        assert ("epoch 1/1" in caplog.text) == verbose


def test_what_should_be_known_is_told_all_the_same(houses, caplog) -> None:
    MetaTxRegressor(epochs=1, spec={"head_options": {"coverage": 0.9}}).fit(houses[["rooms"]], houses.price)
    assert "coverage 0.9 is fitted on 12 validation samples" in caplog.text and "epoch 1/1" not in caplog.text


@pytest.mark.parametrize(
    ("model", "X", "y", "line"),
    [
        (MetaTxClassifier("text"), "a text", ["a"], "X is 'a text'; expected a sequence"),
        (MetaTxClassifier("text"), ["a", "b"], ["x", "x"], "y has one class, 'x'; expected at least two"),
        (MetaTxClassifier("txt"), ["a", "b"], ["x", "y"], "text"),
        (MetaTxClassifier("text", spec={"fusio": 1}), ["a", "b"], ["x", "y"], "fusion"),
        (MetaTxClassifier("text", settings={"lrr": 1}), ["a", "b"], ["x", "y"], "lr"),
        (MetaTxRegressor(), [[1.0], [2.0]], [1.0, np.inf], "Input y contains infinity"),
        (MetaTxClassifier("text"), ["a", "b", "c"], ["x", None, "y"], "Input y contains NaN: 1 targets are missing"),
        (MetaTxClassifier("text", validation_fraction=1.5), ["a", "b"], ["x", "y"], "validation_fraction is 1.5"),
        (MetaTxEmbedder("text"), ["a"], None, "X has 1 sample"),
    ],
)
def test_errors_say_what_is_wrong(model, X, y, line) -> None:
    with pytest.raises((ValueError, TypeError), match=line):
        model.fit(X, y)
