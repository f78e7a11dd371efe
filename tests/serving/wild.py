"""A plug-in whose files are programs: what a parser does that a file has taken over."""

import torch
from torch import nn

import metatx


@metatx.register_tokenizer("wild")
class Wild(metatx.Tokenizer):
    """Two numbers; a .wild file is run, and may set them as ``values``."""

    suffixes = (".wild",)
    signatures = {".wild": lambda head: b"\0" not in head}

    def __init__(self, dim):
        super().__init__(dim)
        self.proj = nn.Linear(2, dim)

    def encode(self, sample):
        if not isinstance(sample, str):
            return {"x": torch.as_tensor(sample, dtype=torch.float32)}
        names = {"path": sample, "values": [0.0, 1.0], "SampleError": metatx.SampleError}
        with open(sample) as file:
            exec(file.read(), names)
        return {"x": torch.tensor(names["values"])}

    def forward(self, batch):
        return self.proj(batch["x"])[:, None]
