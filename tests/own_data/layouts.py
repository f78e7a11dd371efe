"""Files laid out as people have them, what was read of them, and what was told."""

import logging
import os

from metatx.progress import tell


def put(folder, *names, content=b"x"):
    """Files of these names below a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def held(found):
    """What was read: of each split the names of its files, with labels where there are."""
    return {
        split: [
            (os.path.basename(row["file"]), row["label"]) if "label" in row else os.path.basename(row["file"])
            for row in table
        ]
        for split, table in found.items()
    }


def written(path, frame):
    """A table in a file, by its suffix."""
    if path.suffix.lower() == ".parquet":
        frame.to_parquet(path)
    elif path.suffix.lower() == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=path.suffix == ".jsonl")
    return path


def lines_told():
    """Lines that were told, while the generator waits."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    tell("once, so that the logger is set up")
    logging.getLogger("metatx").addHandler(handler)
    yield lines
    logging.getLogger("metatx").removeHandler(handler)
