"""Tasks on the hub: a stand-in of its file interface, which checks arguments as the real client does."""

import inspect
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

import metatx
from metatx.backbone.vit import VisionTransformer
from metatx.cli import main
from metatx.errors import TaskError
from tests.conftest import waves

SAMPLES = waves(5, seed=1)[0]


class Hub:
    """Folders ``root/user/task/branch``, behind the functions of huggingface_hub that metatx calls."""

    def __init__(self, root):
        self.root, self.asked, self.private, self.commits = root, [], {}, []

    def place(self, name, revision):
        self.asked.append(name)
        huggingface_hub.utils.validate_repo_id(name)
        if not (self.root / name).is_dir():
            raise RepositoryNotFoundError(f"404\nRepository {name} not found", response=_response())
        folder = self.root / name / (revision or "main")
        if not folder.is_dir():
            raise RevisionNotFoundError("404\nno revision", response=_response())
        return folder

    def hf_hub_download(self, name, filename, *, revision, token):
        path = self.place(name, revision) / filename
        if not path.is_file():
            raise huggingface_hub.errors.RemoteEntryNotFoundError("404\nno file", response=_response())
        return str(path)

    def snapshot_download(self, name, *, revision, token, allow_patterns):
        snapshot = self.root / "cache"
        shutil.rmtree(snapshot, ignore_errors=True)
        for path in _files(folder := self.place(name, revision)):
            if any(fnmatch(path, pattern) for pattern in allow_patterns):
                (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / path, snapshot / path)
        return str(snapshot)

    def create_repo(self, api, name, *, private, exist_ok):
        assert exist_ok and api.token == "secret"
        self.private.setdefault(name, private)
        (self.root / name / "main").mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=name)

    def create_branch(self, api, name, *, branch, exist_ok):
        shutil.copytree(self.root / name / "main", self.root / name / branch, dirs_exist_ok=exist_ok)

    def upload_folder(self, api, *, repo_id, folder_path, commit_message, revision, delete_patterns):
        folder = self.root / repo_id / (revision or "main")
        for path in _files(folder):
            if any(fnmatch(path, pattern) for pattern in delete_patterns):
                (folder / path).unlink()
        shutil.copytree(folder_path, folder, dirs_exist_ok=True)
        self.commits.append(commit_message)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/{len(self.commits)}")


def _files(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def _response():
    """What the client's errors carry, of whichever library it speaks HTTP with."""
    library = inspect.getmodule(huggingface_hub.errors.HTTPError).__name__.split(".")[0]
    module = __import__(library)
    return module.Response(404, request=module.Request("GET", "https://huggingface.co"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub. A call that the real function would not take fails."""
    hub = Hub(tmp_path / "hub")

    def checked(real, mine):
        def call(*arguments, **named):
            inspect.signature(real).bind(*arguments, **named)
            return mine(*arguments, **named)

        return call

    for name in ("hf_hub_download", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, checked(getattr(huggingface_hub, name), getattr(hub, name)))
    for name in ("create_repo", "create_branch", "upload_folder"):
        monkeypatch.setattr(HfApi, name, checked(getattr(HfApi, name), getattr(hub, name)))
    monkeypatch.chdir(tmp_path)
    return hub


@pytest.fixture(scope="module")
def backbone():
    """Small, with random weights."""
    config = metatx.load_backbone("nano", pretrained=False).config
    return VisionTransformer(type(config)(dim=16, depth=2, num_heads=2, mlp_dim=32), None, spec="tiny")


def _task(backbone, **options):
    return metatx.Task.from_data(backbone, "waves", waves(20), **options)


def test_pushed_and_loaded_is_the_same_task(backbone, hub):
    task = _task(backbone, tune="lora")
    address = task.push_to_hub("ada/waves", private=True, commit_message="first", token="secret")
    assert address == "https://huggingface.co/ada/waves/commit/1"
    assert (hub.private, hub.commits) == ({"ada/waves": True}, ["first"])
    loaded = metatx.Task.from_pretrained("hf:ada/waves", backbone=backbone)
    np.testing.assert_array_equal(loaded.predict_proba(SAMPLES), task.predict_proba(SAMPLES))
    assert loaded.tune == "lora"
    assert 'Task.from_pretrained("hf:ada/waves")' in (hub.root / "ada/waves/main/README.md").read_text()


def test_a_push_replaces_the_task_and_leaves_other_files(backbone, hub):
    _task(backbone, tune="lora").push_to_hub("ada/waves", token="secret")
    (hub.root / "ada/waves/main/notes.txt").write_text("mine")
    _task(backbone, tune="frozen").push_to_hub("ada/waves", token="secret")
    assert sorted(_files(hub.root / "ada/waves/main")) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "notes.txt",
    ]
    metatx.Task.from_pretrained("hf:ada/waves", backbone=backbone)
    assert "notes.txt" not in _files(hub.root / "cache"), "no file is fetched that is not the task's"


def test_a_revision_is_pushed_and_loaded(backbone, hub):
    _task(backbone).push_to_hub("ada/waves", token="secret")
    _task(backbone, tune="norm").push_to_hub("ada/waves", revision="better", token="secret")
    load = metatx.Task.from_pretrained
    assert load("hf:ada/waves", backbone=backbone).tune == "frozen"
    assert load("hf:ada/waves", backbone=backbone, revision="better").tune == "norm"
    with pytest.raises(FileNotFoundError, match="ada/waves on the Hugging Face hub has no revision 'worse'"):
        load("hf:ada/waves", backbone=backbone, revision="worse")


def test_a_pool_and_the_command_line_take_names_on_the_hub(nano, hub, capsys):
    _task(nano).push_to_hub("ada/waves", token="secret")
    pool = metatx.TaskPool(nano)
    pool.add("waves", "hf:ada/waves")
    assert pool.predict([("waves", SAMPLES[0])])[0] in ("loud", "quiet")
    main(["info", "hf:ada/waves"])
    assert "waves -> classification" in capsys.readouterr().out


def test_only_what_is_marked_asks_the_hub(backbone, hub, monkeypatch, capsys):
    folder = _task(backbone).save_pretrained("ada/waves")
    load = metatx.Task.from_pretrained
    assert load("ada/waves", backbone=backbone).tune == "frozen"
    with pytest.raises(ValueError, match="ada/waves is a folder; only tasks on the Hugging Face hub"):
        load("ada/waves", backbone=backbone, revision="main")
    nowhere = ["waves", "./waves", "../ada/none", "/ada/none", "runs/ada/none", "~/none", Path("ada/none"), ".cache/x"]
    for path in [folder.resolve() / "none", *nowhere, "x" * 5000]:
        with pytest.raises(FileNotFoundError, match="does not exist|cannot be a folder"):
            load(path, backbone=backbone)
    with pytest.raises(FileNotFoundError, match="no folder tasks/tumors; a task on .* is written hf:tasks/tumors"):
        load("tasks/tumors", backbone=backbone)
    with pytest.raises(FileNotFoundError, match="written hf:tasks/tumors"):
        metatx.TaskPool(backbone).add("t", "tasks/tumors")
    for command in (["info", "runs/wine"], ["predict", "runs/wine", "x.csv"], ["embed", "runs/wine", "x.csv"]):
        with pytest.raises(SystemExit):
            main(command)
        assert "is written hf:runs/wine" in capsys.readouterr().err
    for name in ("hf:", "hf:ada", "hf:../ada/x", "hf:ada/x/y"):
        with pytest.raises(FileNotFoundError, match="is no name on the Hugging Face hub; expected hf:user/task"):
            load(name, backbone=backbone)
    assert not hub.asked
    _task(backbone).push_to_hub("hf:ada/other", token="secret")
    assert load("hf://ada/other", backbone=backbone).tune == "frozen" and set(hub.asked) == {"ada/other"}


def test_what_the_hub_does_not_have_is_said_in_one_line(backbone, hub):
    with pytest.raises(FileNotFoundError, match="The Hugging Face hub has no task ada/none"):
        metatx.Task.from_pretrained("hf:ada/none", backbone=backbone)
    foreign = hub.root / "ada/bert/main"
    foreign.mkdir(parents=True)
    with pytest.raises(TaskError, match="ada/bert on the Hugging Face hub is no task: it has no config.json"):
        metatx.Task.from_pretrained("hf:ada/bert", backbone=backbone)
    (foreign / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(TaskError, match="ada/bert on the Hugging Face hub cannot be used: .*not a task's") as caught:
        metatx.Task.from_pretrained("hf:ada/bert", backbone=backbone)
    assert not (hub.root / "cache").exists(), "its weights were not fetched"
    with pytest.raises(FileNotFoundError, match="ada/a..b is no name on the Hugging Face hub"):
        metatx.Task.from_pretrained("hf:ada/a..b", backbone=backbone)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_real_client_says_so(backbone, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = "ada/waves is not here, and the Hugging Face hub cannot be reached"
    with pytest.raises(FileNotFoundError, match=message) as caught:
        metatx.Task.from_pretrained("hf:ada/waves", backbone=backbone)
    assert not isinstance(caught.value, LocalEntryNotFoundError) and "\n" not in str(caught.value)
    with pytest.raises(OSError, match="could not be pushed to ada/waves: .*") as caught:
        _task(backbone).push_to_hub("ada/waves", token="secret")
    assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit):
        main(["info", "hf:ada/waves"])
    assert message in capsys.readouterr().err
