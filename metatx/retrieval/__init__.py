"""Search among aligned modalities, and its measures."""
