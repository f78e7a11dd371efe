"""Names: what ships, what is registered, what other packages bring."""

import subprocess
import sys

import pytest

import metatx
from metatx import Tokenizer
from metatx.registry import create, lookup, names, unknown
from tests.samples import shipped


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed distribution, ``sonar``, that brings a tokenizer and a head."""
    (tmp_path / "sonar.py").write_text(
        "import metatx\n"
        "class SonarTokenizer(metatx.Tokenizer):\n"
        "    def __init__(self, dim, pings=3):\n"
        "        super().__init__(dim)\n"
        "@metatx.register_head('depth')\n"
        "class DepthHead(metatx.Head): ...\n"
        "class LastFusion(metatx.Fusion): ...\n"
        "class WireBridge(metatx.Bridge): ...\n"
    )
    info = tmp_path / "sonar-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sonar\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[metatx.tokenizers]\nsonar = sonar:SonarTokenizer\n[metatx.heads]\ndepth = sonar:DepthHead\n"
        "[metatx.fusions]\nlast = sonar:LastFusion\n[metatx.bridges]\nwire = sonar:WireBridge\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("sonar", None)


def test_what_ships_is_listed_sorted_without_being_imported():
    code = (
        "import sys, metatx; print(*metatx.names('tokenizers'), *metatx.names('heads')); "
        "assert not any(m.startswith(('metatx.tokenizers.', 'metatx.heads.')) for m in sys.modules)"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert listed == [*shipped("tokenizers"), *shipped("heads")]
    assert {"image", "tabular", "time_series", "classification", "regression", "forecasting"} <= set(listed)


@pytest.mark.parametrize("kind", ["tokenizers", "heads"])
def test_every_shipped_name_leads_to_its_class(kind):
    base = {"tokenizers": Tokenizer, "heads": metatx.Head}[kind]
    for name in shipped(kind):
        cls = lookup(kind, name)
        assert issubclass(cls, base) and cls.name == name
        assert cls.__module__ == f"metatx.{kind}.{name}"
        assert lookup(kind, name) is cls


def test_registered_classes_are_found_and_listed():
    @metatx.register_tokenizer("ecg")
    class ECGTokenizer(Tokenizer):
        def __init__(self, dim, leads=12):
            super().__init__(dim)

    assert ECGTokenizer.name == "ecg"
    assert lookup("tokenizers", "ecg") is ECGTokenizer
    assert "ecg" in names("tokenizers") and "ecg" not in names("heads")
    assert names("tokenizers") == sorted(names("tokenizers"))
    tokenizer = create("tokenizers", "ecg", 8, leads=3)
    assert (tokenizer.dim, tokenizer.options) == (8, {"leads": 3})


@pytest.mark.parametrize("kind", ["tokenizer", "head", "fusion", "bridge"])
def test_every_kind_of_component_can_be_registered(kind):
    base = getattr(metatx, kind.capitalize())
    own = getattr(metatx, f"register_{kind}")(f"own_{kind}")(type("Own", (base,), {}))
    assert issubclass(lookup(f"{kind}s", f"own_{kind}"), base) and own.name == f"own_{kind}"
    with pytest.raises(ValueError, match=f"{kind} 'own_{kind}' exists already"):
        getattr(metatx, f"register_{kind}")(f"own_{kind}")(type("Other", (base,), {}))


@pytest.mark.parametrize("name", ["image", "ecg"])
def test_taken_names_are_refused(name):
    metatx.register_tokenizer("ecg")(type("First", (Tokenizer,), {}))
    with pytest.raises(ValueError, match=f"tokenizer '{name}' exists already"):
        metatx.register_tokenizer(name)(type("Second", (Tokenizer,), {}))
    assert lookup("tokenizers", name).__name__ != "Second"


def test_a_file_that_runs_again_replaces_its_own_class():
    first, second = (type("Same", (Tokenizer,), {}) for _ in range(2))
    metatx.register_tokenizer("same")(first)
    metatx.register_tokenizer("same")(second)
    assert lookup("tokenizers", "same") is second


def test_heads_and_tokenizers_have_names_of_their_own():
    metatx.register_head("image")(type("ImageHead", (metatx.Head,), {}))
    assert lookup("heads", "image").__name__ == "ImageHead"
    assert lookup("tokenizers", "image").__name__ == "ImageTokenizer"


def test_entry_points_of_other_packages(plugin):
    assert "sonar" in names("tokenizers")
    assert "sonar" not in sys.modules
    assert create("tokenizers", "sonar", 8, pings=2).options == {"pings": 2}
    assert lookup("tokenizers", "sonar").name == "sonar"
    for kind, name in (("fusions", "last"), ("bridges", "wire")):
        assert name in names(kind) and create(kind, name, 8).name == name


def test_a_package_may_decorate_what_it_names_as_entry_point(plugin):
    assert lookup("heads", "depth").__name__ == "DepthHead"
    with pytest.raises(ValueError, match="head 'depth' exists already"):
        metatx.register_head("depth")(type("Other", (metatx.Head,), {}))


def test_unknown_names_show_the_nearest_and_all():
    with pytest.raises(ValueError, match="Unknown tokenizer 'imgae'. Did you mean 'image'\\? Choices: .*tabular"):
        lookup("tokenizers", "imgae")
    with pytest.raises(ValueError, match="Unknown head 'zzz'. Choices: classification, "):
        create("heads", "zzz", 8)


def test_unknown_options_show_the_nearest_and_all():
    message = "Unknown option of the classification head 'poolling'. Did you mean 'pooling'\\? Choices: .*class_weight"
    with pytest.raises(ValueError, match=message):
        create("heads", "classification", 8, poolling="mean")


def test_the_sentence_for_unknown_things():
    assert unknown("file", "a", []) == "Unknown file 'a'. Choices: none."


def test_options_without_names_are_refused():
    class Open(metatx.Tokenizer):
        def __init__(self, dim, *rest, **options):
            super().__init__(dim)

    with pytest.raises(TypeError, match=r"Open takes \*rest and \*\*options; name each option"):
        metatx.register_tokenizer("open")(Open)


@pytest.mark.parametrize("name", [Tokenizer, "", None])
def test_a_decorator_without_a_name_says_how_it_is_written(name):
    with pytest.raises(TypeError, match=r'takes the name of the tokenizer, .* @metatx.register_tokenizer\("mine"\)'):
        metatx.register_tokenizer(name)


def test_a_wrong_option_names_its_component():
    with pytest.raises(ValueError, match="^Option of the tabular tokenizer: bins is '3'; expected a whole number or n"):
        create("tokenizers", "tabular", 8, bins="3")


def test_a_head_that_extends_another_is_not_chosen_for_its_targets(nano):
    @metatx.register_head("extended")
    class Extended(lookup("heads", "classification")):
        pass

    task = metatx.Task.from_data(nano, "tabular", {"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]}, target="y")
    assert task.head.name == "classification"
