"""Rows of every type of column, and tabular tokenizers fitted to them."""

import numpy as np
import pandas as pd
import torch
from datasets import Dataset

from metatx.encoding.collate import collate
from metatx.registry import create
from metatx.tokenizers.tabular import TabularTokenizer

DIM = 16


def rows(count: int = 200, seed: int = 0) -> list[dict[str, object]]:
    """Rows with a column of every type, some values missing, as datasets give them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "city": rng.choice(["Bonn", "Oslo", "Rome"], count),
            "age": rng.integers(18, 90, count),
            "gain": np.where(rng.random(count) < 0.9, 0.0, rng.lognormal(8, 1, count)),
            "member": rng.random(count) < 0.3,
            "since": pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 9000, count), unit="h"),
            "shift": rng.choice(["day", "night"], count),
        }
    )
    frame.loc[rng.random(count) < 0.1, ["city", "gain"]] = None
    return Dataset.from_pandas(frame).to_list()


def fitted(samples: list[dict[str, object]] | None = None, **options: object) -> TabularTokenizer:
    torch.manual_seed(0)
    tokenizer: TabularTokenizer = create("tokenizers", "tabular", DIM, **options)
    return tokenizer.learn(rows() if samples is None else samples).eval()


def tokens(tokenizer: TabularTokenizer, *samples: dict[str, object]) -> torch.Tensor:
    with torch.no_grad():
        return tokenizer(collate([tokenizer.encode(sample) for sample in samples]))


def types(tokenizer: TabularTokenizer) -> dict[str, str]:
    return {entry["name"]: entry["type"] for entry in tokenizer.schema}


def column(values: list[object], **options: object) -> TabularTokenizer:
    """Fitted to rows of one column, ``x``."""
    return fitted([{"x": value} for value in values], **options)


def token(tokenizer: TabularTokenizer, value: object) -> torch.Tensor:
    """The token (D,) of a row of one column, ``x``."""
    return tokens(tokenizer, {"x": value})[0, 0]
