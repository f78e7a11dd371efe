"""Files on disk: weights, read without executing code in them; files of a task, within bounds; a cache of tensors."""
