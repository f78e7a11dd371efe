"""``metatx index`` and ``metatx search``."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metatx.cli.lists import names_of

if TYPE_CHECKING:
    from datasets import Dataset

    from metatx.pretraining.alignment import Alignment
    from metatx.spec import Input
    from metatx.tokenizer import Tokenizer

__all__ = ["conditions", "index", "search"]

PAGE = ".html"
SPLIT = "split"  # column that says the split of each item, of data that are split
RANGE = ".."  # between the bounds of a condition


def index(
    data: str,
    *,
    alignment: str,
    input: list[str],
    out: str,
    anchor: dict[str, Any] | None = None,
    device: str = "auto",
    resume: bool = False,
    add: bool = False,
    existing: Literal["skip", "replace", "add", "error"] = "skip",
    key: str | None = None,
    csv: dict[str, Any] | None = None,
    skip_bad_samples: bool = False,
) -> None:
    """Embed the samples of a table and write an index of them, to be searched by any aligned modality.

    Args:
        data: A table (csv, parquet, json, jsonl), a folder of splits, or hf:NAME; all splits are indexed.
        alignment: Folder of an alignment, or nano.
        input: Samples of an aligned modality, as NAME=MODALITY[:COLUMN]; once for each. Without a column the name is
            that of the column.
        out: Folder of the index.
        anchor: Folder of the text encoder that is the anchor of a modality: --anchor.text FOLDER.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
        resume: Go on with a build that was stopped.
        add: Add to the index that is there.
        existing: Fate of items that it has already, with --add: left out, put in the place of those that are there,
            added a second time, or an error.
        key: Columns by which an item is known again, separated by commas; by default all columns must be equal.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        skip_bad_samples: Give no vector to samples that cannot be used; by default they stop the command.
    """
    from metatx.cli.alignments import load_alignment
    from metatx.retrieval.index import Index

    if not add and (existing != "skip" or key is not None):
        raise ValueError(
            "--existing and --key say what is done with items that are there already; give them with --add."
        )
    loaded = load_alignment(alignment, anchor, device)
    table, samples = _read(data, input, loaded, csv)
    if add:
        built = Index.open(out, loaded)
        built.add(samples, table, existing=existing, key=names_of("--key", key) or None, skip_bad=skip_bad_samples)
    else:
        built = Index.build(out, loaded, samples, table, skip_bad=skip_bad_samples, resume=resume)
    said = ", ".join(f"{built.snapshot.manifest.sum_counts[name]:,} of {name}" for name in built.modalities)
    print(f"{out}: {len(built):,} items; vectors: {said}")


def search(
    index: str,
    query: str,
    *,
    modality: str | None = None,
    item: bool = False,
    k: int = 10,
    among: str | None = None,
    where: list[str] | None = None,
    centre: bool | None = None,
    alignment: str | None = None,
    anchor: dict[str, Any] | None = None,
    out: str | None = None,
) -> None:
    """Find the items of an index that are nearest to a text, a file or another item: one row a hit, best first.

    Args:
        index: Folder of the index.
        query: Text, name of a file, or, with --item, number of an item.
        modality: Modality of the query; by default that whose files have its suffix, or else that of texts.
        item: Take the query for the number of an item of the index; --modality says which of its vectors.
        k: Number of hits, also as -k.
        among: Modalities that are searched, separated by commas; by default all.
        where: Conditions on columns of the items, each an option of its own, all of which must hold: --where
            season=Fall, or 'price=10..20' (bounds included, either may be left out). A column that is named twice must
            have one of the values.
        centre: Take off the mean of each modality first; by default where several are searched.
        alignment: Folder of the alignment, where the index does not find it.
        anchor: Folder of the text encoder that is the anchor of a modality: --anchor.text FOLDER; with --alignment.
        out: File to write: .csv, .jsonl or .parquet; .html, a page of pictures, players and words; without it the
            terminal, as csv.
    """
    from metatx.cli.alignments import load_alignment
    from metatx.cli.predictions import check_folder, check_suffix
    from metatx.progress import tell
    from metatx.retrieval.hits_page import Shown, shown_hits, write_hits
    from metatx.retrieval.index import Index
    from metatx.retrieval.queries import Hit
    from metatx.writing.rows import ROWS, write_rows

    check_suffix(out, (*ROWS, PAGE))
    check_folder(out)
    if item and not query.isdecimal():
        raise ValueError(f"{query} is no number of an item, as --item says; leave --item out, or give a number.")
    if anchor and alignment is None:
        raise ValueError("--anchor belongs to an alignment; name its folder with --alignment.")
    opened = Index.open(index, None if alignment is None else load_alignment(alignment, anchor, "cpu"))
    queries: list[Any] = []
    if item:
        queries.append(Hit(int(query), modality or opened.modalities[0], 1.0))
    else:
        modality = modality or _modality(query, opened.alignment)
        kind = opened.alignment.kind(modality)
        queries.append(_sample(query, kind))
    searched = names_of("--among", among) or None
    wanted = k + 1 if item and k > 0 else k  # an item finds itself too
    [hits] = opened.search(
        queries, modality=modality, among=searched, k=wanted, where=conditions(where or []), centre=centre
    )
    if item:
        hits = [hit for hit in hits if hit.item != int(query)][:k]
    if not hits:
        tell(f"Nothing is found: no item of {index} that may be searched meets --where.")
    said = f"{len(hits):,} hit{'' if len(hits) == 1 else 's'}"
    if out is not None and out.endswith(PAGE):
        asked = shown_hits(opened.snapshot, queries) if item else [Shown(modality, queries[0], kind=kind.name)]
        title = f"Search in {opened.folder.absolute().name}"
        write_hits(out, asked, [shown_hits(opened.snapshot, hits)], title=title)
        print(f"{out}: {said}")
        return
    names = [f"_{name}" if name in opened.columns else name for name in ("item", "modality", "score")]
    rows = [
        dict(zip(names, (hit.item, hit.modality, hit.score), strict=True))
        | {name: shown(value) for name, value in row.items()}
        for hit, row in zip(hits, opened.rows([hit.item for hit in hits]), strict=True)
    ]
    write_rows(rows, out, sys.stdout)
    if out is not None:
        print(f"{out}: {said}")


def shown(value: Any) -> Any:
    """Cell of a row of hits: the path in place of a file's bytes."""
    return value.get("path") if isinstance(value, dict) and "bytes" in value else value


def conditions(lines: Sequence[str]) -> dict[str, Any]:
    """Conditions that the values of ``--where`` say, as ``Index.search`` takes them.

    Raises:
        ValueError: If a value has another form.

    Example:
        >>> conditions(["season=Fall", "season=Winter", "price=10..", "note="])
        {'season': ['Fall', 'Winter'], 'price': {'min': '10'}, 'note': None}
    """
    found: dict[str, Any] = {}
    for line in lines:
        name, equals, text = line.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--where is {line!r}; expected COLUMN=VALUE or COLUMN=LOW..HIGH, such as season=Fall.")
        value: Any = text or None
        if RANGE in text:
            low, _, high = text.partition(RANGE)
            value = {bound: part for bound, part in (("min", low), ("max", high)) if part}
            if not value:
                raise ValueError(f"--where is {line!r}, without a bound; expected COLUMN=LOW..HIGH, or one of the two.")
        if name in found and isinstance(value, dict) | isinstance(found[name], dict):
            raise ValueError(f"--where names {name} twice, and a range among them; give one condition.")
        if name in found:
            value = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        found[name] = value
    return found


def _modality(query: str, alignment: "Alignment") -> str:
    """Modality of a query: that whose files end as it does, or else that of texts. Raises ValueError."""
    kinds = {name: alignment.kind(name) for name in alignment.towers}
    words = [name for name, kind in kinds.items() if kind.words]
    files = [name for name, kind in kinds.items() if kind.suffixes and query.lower().endswith(tuple(kind.suffixes))]
    files = [name for name in files if name not in words]
    if files and not Path(query).is_file():
        raise ValueError(f"{query} is no file here; to search the words themselves, name their --modality.")
    read = sorted({suffix for kind in kinds.values() for suffix in kind.suffixes})
    if Path(query).is_file() and not query.lower().endswith(tuple(read)):
        raise ValueError(
            f"{query} is a file that no modality reads; expected one of {', '.join(read)}, or name the --modality of "
            "words to search the words themselves."
        )
    chosen = files or words
    if len(chosen) != 1:
        raise ValueError(f"{query} may be of {', '.join(chosen or kinds)}; name its --modality.")
    return chosen[0]


def _sample(query: str, kind: "type[Tokenizer]") -> Any:
    """Raw sample that a word of the command line stands for: a text, or the file of that name."""
    names_file = query.lower().endswith(tuple(kind.suffixes)) and Path(query).is_file()
    return Path(query) if kind.words and names_file else query


def _read(
    data: str, lines: Sequence[str], alignment: "Alignment", csv: dict[str, Any] | None
) -> "tuple[Dataset, Mapping[str, Any]]":
    """Table of all splits, and the samples of each modality: a column, or rows of several."""
    from datasets import concatenate_datasets

    from metatx.data.tables import ALL, read_splits
    from metatx.examples import Examples, Rows
    from metatx.inputs.columns import known_columns, shared_facts
    from metatx.inputs.notation import parsed
    from metatx.reading.csv_tables import Reading

    inputs = _one_a_modality(parsed(lines), alignment)
    kinds = [alignment.kind(each.modality) for each in inputs]
    files, words = known_columns(replace(each, modality=kind.name) for each, kind in zip(inputs, kinds, strict=True))
    reading = replace(Reading.of(csv).also(words), files=files)
    source = data if data.startswith("hf:") else Path(data).absolute()  # so that an index names its files from anywhere
    splits = read_splits(source, shared_facts(kinds)["suffixes"], reading=reading)
    tables = []
    for split, table in splits.items():
        if isinstance(table, Examples):
            raise ValueError(f"{data} holds samples without columns; an index is made of a table.")
        named = split == ALL or SPLIT in table.column_names
        tables.append(table if named else table.add_column(SPLIT, [split] * len(table)))
    whole = concatenate_datasets(tables) if len(tables) > 1 else tables[0]
    samples: dict[str, Any] = {}
    for each, kind in zip(inputs, kinds, strict=True):
        names = list(each.columns or (each.name,))
        missing = [name for name in names if name not in whole.column_names]
        if missing:
            raise ValueError(f"{data} has no column {missing[0]} for --input; it has {', '.join(whole.column_names)}.")
        one = len(names) == 1 and not kind.takes_row
        samples[each.modality] = names[0] if one else Rows(whole, names)
    return whole, samples


def _one_a_modality(inputs: "Sequence[Input]", alignment: "Alignment") -> "Sequence[Input]":
    """Refuse a modality that is not aligned, or is named twice. Raises ValueError."""
    from metatx.registry import unknown

    names = [each.modality for each in inputs]
    for name in names:
        if name not in alignment.towers:
            raise ValueError(unknown("aligned modality", name, list(alignment.towers)))
        if names.count(name) > 1:
            raise ValueError(f"Two inputs are of {name}; an item has one vector of each modality.")
    return inputs
