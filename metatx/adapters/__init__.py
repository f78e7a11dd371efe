"""What a task may change of the shared backbone: LoRA and norms, alone and several tasks' in one pass, and peft's format."""
