"""The frozen transformer that all tasks share: its parts, the weights it starts from, how they are found and read."""
