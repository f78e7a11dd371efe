"""What a task may change of the shared backbone: LoRA and norms, of one task or of several in one pass."""
