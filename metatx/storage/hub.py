"""Tasks on the Hugging Face hub: fetched by name, and pushed."""

import os
import re
import tempfile
from pathlib import Path

from metatx.errors import TaskError
from metatx.model import Model
from metatx.storage.folder import Record, describe, write

__all__ = ["push", "task_folder"]

FILES = ["README.md", "config.json", "model.safetensors", "adapter/*", "backbone/*"]
MARK = "hf:"
NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def task_folder(name: str | Path, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Folder of a task: ``name`` itself, or the downloaded task ``hf:user/task`` of the hub.

    The network is used for ``hf:user/task`` (or ``hf://user/task``) only, so that a mistyped folder name never loads
    the task of a stranger. A downloaded task is found again without network (``HF_HUB_OFFLINE=1``).

    Args:
        name: Folder, or ``hf:user/task``.
        revision: Branch, tag or commit on the hub; by default the main branch.
        token: Token of the hub. True requires the one saved by ``hf auth login``, False sends none.

    Raises:
        FileNotFoundError: If the folder does not exist, or the hub cannot be reached or has no such task or revision.
        TaskError: If the repository is no task; its other files are not fetched then.
        ValueError: If a revision is given for a folder.
    """
    if isinstance(name, str) and name.startswith(MARK):
        asked = name.removeprefix(MARK).removeprefix("//")
        if not NAME.fullmatch(asked):
            raise FileNotFoundError(f"{name!r:.200} is no name on the Hugging Face hub; expected hf:user/task.")
        return _fetched(asked, revision, token)
    if revision is not None:
        raise ValueError(f"{name} is a folder; only tasks on the Hugging Face hub (hf:user/task) have revisions.")
    if isinstance(name, str) and NAME.fullmatch(name) and not os.path.lexists(name):
        raise FileNotFoundError(f"There is no folder {name}; a task on the Hugging Face hub is written hf:{name}.")
    return Path(name)


def _fetched(name: str, revision: str | None, token: str | bool | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        config = Path(hf_hub_download(name, "config.json", revision=revision, token=token))
        describe(config.parent)
        return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=FILES))
    except TaskError as error:
        raise TaskError(f"{name} on the Hugging Face hub cannot be used: {error}") from None
    except RevisionNotFoundError:
        raise FileNotFoundError(f"{name} on the Hugging Face hub has no revision {revision!r}.") from None
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"The Hugging Face hub has no task {name} that you may read; a private one needs `hf auth login` or token=."
        ) from None
    except HFValidationError as error:
        raise FileNotFoundError(f"{name} is no name on the Hugging Face hub: {_line(error)}") from None
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is not here, and the Hugging Face hub cannot be reached: {_line(error.__cause__ or error)}"
        ) from None
    except EntryNotFoundError:
        raise TaskError(f"{name} on the Hugging Face hub is no task: it has no config.json.") from None
    except OSError as error:
        raise OSError(f"{name} could not be fetched from the Hugging Face hub: {_line(error)}") from None


def push(
    model: Model,
    record: Record,
    repo_id: str,
    private: bool | None = None,
    commit_message: str = "Upload metatx task",
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Upload a task as one commit to a repository on the hub, which is created if it does not exist.

    The model card shows ``record.about``, such as the license. A card, adapter or backbone of an older task in the
    repository is replaced; other files stay.

    Args:
        model: Model of the task.
        record: Columns, settings, metrics and facts of the task.
        repo_id: Name of the repository, ``user/task`` or ``hf:user/task``.
        private: True for a private new repository, False for a public one; None takes the account's default.
        commit_message: Message of the commit.
        revision: Branch to commit to, created if it does not exist; by default the main branch.
        token: Token of the hub, as in ``task_folder``, with write access.

    Returns:
        The commit's URL.

    Raises:
        OSError: If the hub cannot be reached, or refuses the upload.
        ValueError: If ``repo_id`` is no name of a repository.
    """
    repo_id = repo_id.removeprefix(MARK).removeprefix("//")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # error of the hub's HTTP client

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        write(model, record, Path(folder), f"{MARK}{repo_id}")
        try:
            name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None:
                api.create_branch(name, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                delete_patterns=["adapter/*", "backbone/*"],
            )
        except (HTTPError, OSError) as error:
            raise OSError(f"The task could not be pushed to {repo_id}: {_line(error)}") from None
    return str(commit.commit_url)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
