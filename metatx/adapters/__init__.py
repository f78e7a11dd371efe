"""Adapters: LoRA and norms of one task, or of several tasks in one pass, on the shared backbone."""
