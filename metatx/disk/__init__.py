"""Files on disk: tensors, read without running what is in them; a task's, within bounds; a cache between runs."""
