"""Tables, folders and arrays of a user as samples and targets, by split."""

from metatx.data.tables import as_table, candidates, find_target, read_splits
from metatx.reading.split_names import ALL

__all__ = ["ALL", "as_table", "candidates", "find_target", "read_splits"]
