"""``metatx recall``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

__all__ = ["recall_"]


def recall_(
    data: str,
    *,
    alignment: str,
    input: list[str] | None = None,
    anchor: dict[str, Any] | None = None,
    device: str = "auto",
    split_column: str | None = None,
    csv: dict[str, Any] | None = None,
    baseline: bool = True,
    skip_bad_samples: bool = False,
    out: str | None = None,
) -> None:
    """Measure how well aligned modalities find one another: every modality asked for its partners in each other one.

    The table shows the recall among the nearest 1, 5 and 10, the mean reciprocal rank and the median rank, beside
    chance, the same backbone without training, and regularised CCA, which learns from the train split.

    Args:
        data: A table (csv, parquet, json, jsonl) or a folder of splits, or hf:NAME, with a row for each pair. Where it
            is split, the test split is measured.
        alignment: Folder of the alignment, or nano.
        input: Side of the pairs, as NAME=MODALITY[:COLUMN,...], of an aligned modality; once for each. Without columns
            the name is that of the column. Of several columns each holds a partner: --input
            caption=text:caption1,caption2.
        anchor: Folder of the text encoder that is the anchor of a modality: --anchor.text FOLDER.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
        split_column: Column that says train, validation or test.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        baseline: Compute the lines without training and of CCA.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command.
        out: Folder for metrics.json.
    """
    from metatx.cli.alignments import load_alignment
    from metatx.inputs.notation import parsed
    from metatx.progress import tell
    from metatx.reading.csv_tables import Reading
    from metatx.reading.split_names import ALL
    from metatx.retrieval.paired_tables import read_pairs
    from metatx.retrieval.recall import recall as measured

    inputs = parsed(input or [])
    loaded = load_alignment(alignment, anchor, device)
    read = [replace(each, modality=loaded.kind(each.modality).name) for each in inputs]
    splits = read_pairs(data, read, split_column, Reading.of(csv))
    asked = splits.get("test", splits.get(ALL))
    if asked is None:
        raise ValueError(f"{data} has no test split; it has {', '.join(splits)}.")
    if baseline and "train" not in splits:
        tell(f"{data} has no train split to learn from, so there is no line of CCA.")
    report = measured(
        loaded,
        asked,
        train=splits.get("train"),
        validation=splits.get("validation"),
        modalities={each.name: each.modality for each in inputs},
        baseline=baseline,
        skip_bad=skip_bad_samples,
    )
    print(report)
    if out is not None:
        report.write(Path(out) / "metrics.json", data=data, alignment=alignment)
        print(f"saved in {out}")
