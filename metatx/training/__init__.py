"""The training of one task: loop, checkpoints, frozen features, processes."""
