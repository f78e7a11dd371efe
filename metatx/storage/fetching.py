"""Folder of a task, fetched from the Hugging Face hub where its name says so. It needs no torch."""

import os
import re
from pathlib import Path

from metatx.errors import TaskError
from metatx.storage.config import describe

__all__ = ["MARK", "one_line", "task_folder", "tasks_on_hub"]

FILES = ["README.md", "config.json", "model.safetensors", "adapter/*", "backbone/*"]
MARK = "hf:"
TAG = "metatx"  # tag that the model card of a task has
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
        raise FileNotFoundError(f"{name} is no name on the Hugging Face hub: {one_line(error)}") from None
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is not here, and the Hugging Face hub cannot be reached: {one_line(error.__cause__ or error)}"
        ) from None
    except EntryNotFoundError:
        raise TaskError(f"{name} on the Hugging Face hub is no task: it has no config.json.") from None
    except OSError as error:
        raise OSError(f"{name} could not be fetched from the Hugging Face hub: {one_line(error)}") from None


def tasks_on_hub(most: int = 100) -> list[tuple[str, list[str]]]:
    """Names of the tasks on the hub that carry the tag of metatx, each with its other tags, most downloaded first.

    Args:
        most: Largest number of tasks.

    Raises:
        OSError: If the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # error of the hub's HTTP client

    try:
        models = list(HfApi().list_models(filter=TAG, sort="downloads", limit=most))
    except (HTTPError, OSError) as error:
        raise OSError(f"The tasks on the Hugging Face hub cannot be listed: {one_line(error)}") from None
    # Tags with a colon are the hub's own, such as license:mit.
    return [(f"{MARK}{each.id}", [tag for tag in each.tags or () if tag != TAG and ":" not in tag]) for each in models]


def one_line(error: BaseException) -> str:
    """Message of an error on one line."""
    return " ".join(str(error).split())
