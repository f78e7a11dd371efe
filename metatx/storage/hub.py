"""Tasks pushed to the Hugging Face hub."""

import tempfile
from pathlib import Path

from metatx.model import Model
from metatx.storage.fetching import MARK, one_line, task_folder
from metatx.storage.folder import Record, write

__all__ = ["push", "task_folder"]


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
            raise OSError(f"The task could not be pushed to {repo_id}: {one_line(error)}") from None
    return str(commit.commit_url)
