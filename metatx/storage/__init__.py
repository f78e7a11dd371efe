"""Storage of tasks on disk and on the hub, with their cards."""
