"""``metatx tune``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metatx.cli.lists import names_of
from metatx.cli.training import asked_of, free_folder
from metatx.files import written_whole

__all__ = ["tune_"]


def tune_(
    data: str,
    *,
    seconds: float = 600.0,
    trials: int | None = None,
    tiers: str | None = None,
    out: str | None = None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Search for better settings of a task on the validation split, for "metatx train --config".

    The first trial is the task without a search; learning rate, weight decay, and the options of head and tokenizer
    that are not given are tried. The test split is not read.

    Args:
        data: Data as in "metatx train".
        seconds: Seconds of all trials together. The same command goes on where it was stopped, and with more seconds.
        trials: Largest number of trials.
        tiers: Tiers to try beside that of --tune, separated by commas: norm,lora. They take longer than frozen.
        out: Folder for config.yaml and trials.csv; runs/NAME of the data by default.
        config: Options to be written with those of the best trial.
        options: Options of the task and its training.
    """
    asked = asked_of(**options)
    folder = Path(out or free_folder(data))
    wanted = names_of("--tiers", tiers)
    # Imported here: torch takes seconds, and a mistake in the arguments has been told before.
    from metatx.evaluation.settings_search import search_settings

    search = search_settings(
        data,
        asked.spec,
        backbone=asked.loaded(),
        settings=asked.settings,
        seconds=seconds,
        trials=trials,
        tiers=wanted,
        out=folder,
        **asked.data,
    )
    unused = ("seconds", "trials", "tiers")
    tuned = with_values({k: v for k, v in (config or {}).items() if k not in unused}, search.best.values)
    _write(folder / "config.yaml", tuned)
    print(f"{search}\nsaved in {folder}; train it with: metatx train --config {folder / 'config.yaml'}")


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``metatx train`` with the values of a trial."""
    tuned = dict(config)
    for name, value in values.items():
        part, *path = name.split(".")
        part = "head_options" if part == "head" else part
        if not path:
            tuned[part] = value
            continue
        *inputs, option = path
        tuned[part] = holder = dict(tuned.get(part) or {})
        for input in inputs:
            holder[input] = holder = dict(holder.get(input) or {})
        holder[option] = value
    return tuned


def _write(path: Path, config: dict[str, Any]) -> None:
    import yaml

    with written_whole(path) as temporary:
        temporary.write_text(yaml.safe_dump(config, sort_keys=False))
