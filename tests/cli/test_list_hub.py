"""``metatx list --hub``: tasks that anyone may load, and one line where there is no network."""

from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from metatx.cli import main


def test_tasks_on_the_hub_are_listed_by_the_name_that_loads_them(monkeypatch, capsys):
    asked = []

    def listed(self, **options):
        asked.append(options)
        tags = ["metatx", "image", "classification", "license:mit", "region:us"]
        return iter([SimpleNamespace(id="ann/shoes", tags=tags), SimpleNamespace(id="bob/plain", tags=None)])

    monkeypatch.setattr(HfApi, "list_models", listed)
    main(["list", "--hub"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["hf:ann/shoes", "image", "classification"],
        ["hf:bob/plain"],
    ]
    assert asked[0]["filter"] == "metatx"


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), HTTPError("no route")])
def test_without_network_one_line_says_so(monkeypatch, capsys, error):
    def fails(self, **options):
        raise error

    monkeypatch.setattr(HfApi, "list_models", fails)
    with pytest.raises(SystemExit) as end:
        main(["list", "--hub"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("metatx: The tasks on the Hugging Face hub cannot be listed: ") and said.count("\n") == 1


def test_a_kind_and_the_hub_are_not_listed_together(capsys):
    with pytest.raises(SystemExit):
        main(["list", "heads", "--hub"])
    assert "leave one of them out" in capsys.readouterr().err
