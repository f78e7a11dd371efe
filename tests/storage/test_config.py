"""A task's config: what is wrong in it is named, and nothing in it makes anything but a TaskError."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import metatx
from metatx.errors import TaskError
from metatx.storage.config import DEFAULTS, FORMS, OPTIONAL, checked_config, upgraded
from metatx.storage.folder import describe
from tests.conftest import waves
from tests.damaging import changed
from tests.mixed_tasks import small_backbone

BACKBONE = small_backbone()


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Folders of three tasks, their configs, and room for a fourth."""
    folder = tmp_path_factory.mktemp("tasks")
    pictures = [np.full((8, 8, 3), 90 * i, np.uint8) for i in range(2)]
    rows = [{"a": float(i), "b": "xy"[i % 2]} for i in range(8)]
    made = {
        "waves": metatx.Task.from_data(BACKBONE, "waves", waves(20), tune="lora"),
        "image": metatx.Task.from_data(BACKBONE, "image", (pictures, ["a", "b"])),
        "rows": metatx.Task.from_data(BACKBONE, "tabular", (rows, ["u", "v"] * 4)),
    }
    return {name: task.save_pretrained(folder / name) for name, task in made.items()}


@pytest.fixture
def config(tasks):
    return json.loads((tasks["waves"] / "config.json").read_text())


def test_what_is_saved_has_the_form(config):
    assert checked_config(config, "p") == config
    known = {key.partition(".")[0] for key in FORMS}
    assert set(config) == known, "a new key has a form"
    old = {key: value for key, value in config.items() if key not in OPTIONAL}
    assert checked_config(old, "p").items() >= DEFAULTS.items()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("target", 5, "'target' is 5; expected a text or null"),
        ("inputs", [5], r"'inputs' is \[5\]; expected a list of texts"),
        ("version", "2", "'version' is '2'; expected a whole number"),
        ("version", True, "'version' is True; expected a whole number"),
        ("metrics", {"metatx": {"accuracy": "x"}}, "'metrics' is .*; expected numbers by name"),
        ("backbone", [], r"'backbone' is \[\]; expected an object"),
        ("tokenizer", {"name": "waves", "options": {"size": 10**8}}, "'tokenizer.options' is .* at most 10,000,000"),
        (
            "tokenizer",
            {"name": "inputs", "options": {}, "fitted": {"parts": {"a": {"channels": 10**8}}}},
            "'tokenizer.fitted' is .* at most 10,000,000",
        ),
        (
            "head",
            {"name": "a", "options": {}, "fitted": {"linear": 10**8}},
            "'head.fitted' is .* at most 10,000,000",
        ),
        ("head", {"name": "a", "options": {}, "note": []}, "'head.note' is .*; expected a text"),
        ("head", {"name": 3, "options": {}}, "'head.name' is 3; expected a text"),
        ("about", {"license": []}, "'about' is .*; expected an object of texts"),
    ],
)
def test_what_has_another_form_is_named(config, key, value, message):
    with pytest.raises(TaskError, match=message):
        checked_config(config | {key: value}, "p")


def test_what_is_missing_is_named(config):
    for key, form in FORMS.items():
        record, _, part = key.partition(".")
        inner = {name: value for name, value in config[record].items() if name != part} if part else None
        less = config | {record: inner} if part else {name: value for name, value in config.items() if name != record}
        if key in OPTIONAL:
            checked_config(less, "p")
        else:
            with pytest.raises(TaskError, match=f"it lacks '{key}'; expected {form.what.partition(',')[0]}"):
                checked_config(less, "p")


def test_older_formats_held_what_was_fitted_among_the_options():
    old = {"name": "waves", "options": {"frame": 8, "channels": 2, "amplitude": 4.0}}
    today = {"name": "waves", "options": {"frame": 8, "token_rms_factor": 4.0}, "fitted": {"channels": 2}}
    assert upgraded(old, ["frame", "token_rms_factor"]) == today
    assert upgraded(today, ["frame"]) == today, "format 3 stays as it is"
    own = upgraded(old, ["frame", "channels", "amplitude"])
    assert own == {**old, "fitted": {}}, "an option of a plug-in keeps its name"
    both = upgraded(old, ["frame", "channels", "token_rms_factor"], facts=["channels"])
    assert both == today, "what was learned stood in the place of the option of its name"


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_config_makes_anything_but_a_task_error(tasks, data):
    name = data.draw(st.sampled_from(sorted(tasks)))
    folder = shutil.copytree(tasks[name], tasks[name].parent / "changed", dirs_exist_ok=True)
    text = data.draw(changed(json.loads((folder / "config.json").read_text())))
    (folder / "config.json").write_text(text, errors="surrogatepass")
    pool, good = metatx.TaskPool(BACKBONE), 0
    for load in (
        lambda: describe(folder),
        lambda: metatx.Task.from_pretrained(folder, BACKBONE),
        lambda: (pool.add("t", folder), pool.task("t")),
    ):
        try:
            load()
            good += 1
        except TaskError as error:
            assert "\n" not in str(error)
    assert good in (0, 1, 3), "Python and the pool agree"
    shutil.rmtree(folder)


def test_the_message_about_a_task_is_one_line(tasks):
    folder = shutil.copytree(tasks["image"], tasks["image"].parent / "lines", dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config["backbone"] |= {"spec": "a\nb", "fingerprint": "c\u2028d"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TaskError, match="was trained on backbone a b .*c d") as raised:
        metatx.Task.from_pretrained(folder, BACKBONE)
    assert len(str(raised.value).splitlines()) == 1
