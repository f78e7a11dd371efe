"""``metatx compact``."""

from pathlib import Path

__all__ = ["compact"]


def compact(index: str, *, keep_seconds: float | None = None) -> None:
    """Merge small segments of an index, and write those anew that hold deleted items; items keep their numbers.

    Args:
        index: Folder of the index.
        keep_seconds: Seconds for which files stay that are no longer part of the index, for those who read it now; a
            day by default. 0 removes them at once; nobody else may use the index then.
    """
    from metatx.retrieval.index import Index

    if keep_seconds is not None and not keep_seconds >= 0:
        raise ValueError(f"--keep-seconds is {keep_seconds:g}; it must be at least 0.")
    opened = Index.open(index)
    gone = opened.compact() if keep_seconds is None else opened.compact(keep_seconds=keep_seconds)
    size = sum(file.stat().st_size for file in Path(index).rglob("*") if file.is_file())
    print(f"{index}: {len(opened):,} items, {gone:,} segments fewer, {size / 1e6:,.1f} MB on disk")
