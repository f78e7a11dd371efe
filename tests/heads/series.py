"""A table of two channels, and a tokenizer with a forecasting head on it."""

import numpy as np
import pandas as pd
import torch
from datasets import Dataset

from metatx.encoding.collate import collate
from metatx.heads.forecasting import ForecastingHead
from metatx.registry import create
from metatx.tokenizers.time_series import TimeSeriesTokenizer

DIM, LOOKBACK, HORIZON = 16, 24, 6


def frame(rows: int = 200) -> pd.DataFrame:
    """Two channels with a daily wave, at different levels and scales."""
    hours, random = np.arange(rows), np.random.default_rng(0)
    wave = np.sin(hours * 2 * np.pi / 24)
    return pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "load": 400 + 30 * wave + random.normal(size=rows),
            "oil": -2 + 0.1 * wave + 0.01 * random.normal(size=rows),
        }
    )


def table(data: pd.DataFrame) -> Dataset:
    return Dataset.from_pandas(data, preserve_index=False)


class Model:
    """Tokenizer and head with nothing between, the head's weights random, fitted to a table."""

    def __init__(self, data: pd.DataFrame, channels: str = "separate", **options: object) -> None:
        torch.manual_seed(0)
        self.tokenizer: TimeSeriesTokenizer = create(
            "tokenizers", "time_series", DIM, patch_size=8, stride=4, lookback=LOOKBACK, channels=channels
        )
        self.head: ForecastingHead = create(
            "heads", "forecasting", DIM, **{"horizon": HORIZON, "tokens": 4, "linear": 12, **options}
        )
        self.examples = self.head.examples(table(data), ["load", "oil"], None, self.tokenizer, "the table")
        self.tokenizer.learn(self.examples.inputs)
        self.head.learn(self.examples.targets)
        for layer in (self.head.output, self.head.skip):
            if layer is not None:
                torch.nn.init.normal_(layer.weight, std=0.1)
                torch.nn.init.normal_(layer.bias, std=0.1)
        self.tokenizer.eval(), self.head.eval()

    def __call__(self, *samples: np.ndarray) -> torch.Tensor:
        batch = collate([self.tokenizer.encode(sample) for sample in samples])
        return self.head(self.head.pool(self.tokenizer(batch)))

    def predict(self, *samples: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.head.decode(self(*samples))
