"""The folder of tasks: what is loaded, refused, reloaded and dropped as it changes."""

import shutil

import pytest

from metatx.pool.pool import TaskPool
from metatx.serving.catalog import Catalog, UnknownTaskError

ROW = {"a": 0.4, "b": "red", "c": -1.0}


@pytest.fixture
def catalog(nano, tasks):
    found = Catalog(tasks, TaskPool(nano))
    found.refresh()
    return found


def names(catalog):
    return sorted(catalog.served), sorted(task.name for task in catalog.pool.tasks())


def test_a_damaged_task_is_refused_and_the_others_go_on(nano, tasks):
    (tasks / "light" / "model.safetensors").write_bytes(b"damaged")
    (tasks / "ahead" / "config.json").write_text("{}")
    shutil.copytree(tasks / "kinds", tasks / "run" / "task")
    (tasks / "notes.txt").write_text("no task")
    catalog = Catalog(tasks, TaskPool(nano))
    catalog.refresh()
    assert names(catalog) == (["kinds", "run"], ["kinds", "run"])
    assert set(catalog.refused) == {"ahead", "light"} and str(tasks) not in catalog.refused["light"]
    assert catalog.pool.predict([("run", ROW)])[0] in ("yes", "no")


def test_what_appears_changes_or_goes_is_followed(catalog, tasks):
    shutil.copytree(tasks / "kinds", tasks / "more")
    catalog.refresh()
    assert "more" in catalog.served
    first = catalog.pool.task("more")
    catalog.refresh()
    assert catalog.pool.task("more") is first
    shutil.rmtree(tasks / "more")
    shutil.copytree(tasks / "light", tasks / "more")
    catalog.refresh()
    assert catalog.served["more"].config["tokenizer"]["name"] == "image" and catalog.pool.task("more") is not first
    shutil.rmtree(tasks / "more")
    catalog.refresh()  # it may be being replaced
    assert "more" in catalog.served
    catalog.refresh()
    assert names(catalog) == (["ahead", "kinds", "light"],) * 2


def test_a_reload_that_fails_keeps_the_old_one(catalog, tasks):
    model = tasks / "kinds" / "model.safetensors"
    whole, before = model.read_bytes(), catalog.pool.task("kinds")
    model.write_bytes(whole[:1000])
    catalog.refresh()
    assert catalog.pool.task("kinds") is before and "damaged" in catalog.refused["kinds"]
    with pytest.raises(ValueError, match="damaged"):
        catalog.load("kinds")
    model.write_bytes(whole)
    catalog.refresh()
    assert catalog.pool.task("kinds") is not before and catalog.refused == {}


def test_versions_stay_and_aliases_move_at_once(catalog, tasks):
    for version in ("kinds@1", "kinds@2"):
        shutil.copytree(tasks / "kinds", tasks / version)
    (tasks / "best").symlink_to("kinds@1")
    (tasks / "astray").symlink_to("..")
    catalog.refresh()
    assert catalog.aliases == {"best": "kinds@1"} and catalog.resolve("best") == "kinds@1"
    assert "astray" not in catalog.served
    catalog.point("best", "kinds@2")
    assert catalog.resolve("best") == "kinds@2" and (tasks / "best").readlink().name == "kinds@2"
    catalog.refresh()
    assert catalog.resolve("best") == "kinds@2"
    before = catalog.pool.task("kinds@2")
    (tasks / "kinds@2" / "README.md").write_text("changed")
    catalog.refresh()
    assert catalog.pool.task("kinds@2") is before
    with pytest.raises(ValueError, match="immutable"):
        catalog.load("kinds@2")
    for alias, version in (("../out", "kinds@1"), ("kinds", "kinds@1"), ("a@b", "kinds@1"), (".hidden", "kinds@1")):
        with pytest.raises(ValueError, match="cannot be an alias"):
            catalog.point(alias, version)
    for version in ("kinds", "kinds@3", "../kinds@1"):
        with pytest.raises(UnknownTaskError):
            catalog.point("best", version)


def test_a_dropped_task_stays_away_until_it_is_loaded(catalog, tasks):
    catalog.drop("kinds")
    catalog.refresh()
    assert names(catalog) == (["ahead", "light"],) * 2
    with pytest.raises(UnknownTaskError):
        catalog.resolve("kinds")
    catalog.load("kinds")
    assert catalog.resolve("kinds") == "kinds"
    for name in ("nowhere", "..", "../tasks/kinds"):
        with pytest.raises(UnknownTaskError):
            catalog.load(name)


def test_no_such_folder(nano, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        Catalog(tmp_path / "nowhere", TaskPool(nano))
