"""One backbone in memory with many tasks on it."""
