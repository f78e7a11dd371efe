"""Storage of tasks on disk and on the hub, with their cards."""

from metatx.storage.folder import check, describe, read, save, write

__all__ = ["check", "describe", "read", "save", "write"]
