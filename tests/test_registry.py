"""Names find classes: what ships, what is registered, what other packages bring."""

import copy
import sys

import pytest

import metatx
from metatx.registry import create, lookup, names


def test_what_ships_is_found_by_file_name_and_imported_when_asked_for():
    assert {"image", "tabular", "time_series"} <= set(names("tokenizers"))
    assert {"classification", "forecasting", "regression"} <= set(names("heads"))
    assert lookup("heads", "regression").name == "regression"


def test_unknown_names_list_the_choices_nearest_first():
    with pytest.raises(ValueError, match="Unknown tokenizer 'tabula'. Did you mean 'tabular'.*Choices: .*image"):
        lookup("tokenizers", "tabula")
    with pytest.raises(ValueError, match="Unknown option of the regression head 'drop'. Did you mean 'dropout'"):
        create("heads", "regression", 8, drop=1)


def test_registered_names_are_not_taken_twice():
    @metatx.register_head("test_registry_head")
    class First(metatx.Head):
        pass

    assert lookup("heads", "test_registry_head") is First and "test_registry_head" in names("heads")
    with pytest.raises(ValueError, match="exists already"):
        metatx.register_head("test_registry_head")(type("Second", (metatx.Head,), {}))
    with pytest.raises(ValueError, match="exists already"):
        metatx.register_tokenizer("image")(type("Mine", (metatx.Tokenizer,), {}))
    metatx.register_head("test_registry_head")(First)  # the same class, run again


def test_other_packages_bring_theirs_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "seismic.py").write_text(
        "import metatx\nclass SeismicTokenizer(metatx.Tokenizer):\n    '''Waves of the ground.'''\n"
    )
    info = tmp_path / "seismic-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: seismic\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[metatx.tokenizers]\nseismic = seismic:SeismicTokenizer\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "seismic" in names("tokenizers") and "seismic" not in sys.modules
    assert create("tokenizers", "seismic", 8).name == "seismic"


def test_options_are_recorded_and_survive_a_copy():
    head = create("heads", "classification", 8, dropout=0.5).fit(["a", "b"])
    assert head.options == {"dropout": 0.5, "classes": ["a", "b"]}
    assert copy.deepcopy(head).options == head.options
