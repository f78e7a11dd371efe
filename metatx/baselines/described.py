"""Classical features of samples of any modality as plain numbers, for models that read nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from metatx.baselines.pipelines import scaled
from metatx.baselines.side_by_side import WordComponents

__all__ = ["NumbersOfFeatures"]

COMPONENTS = 400  # of words


class NumbersOfFeatures:
    """Map from what ``Tokenizer.baseline_features`` gives to numbers: scaled ones, indicators, components of words.

    Words become TF-IDF weights of words and of pairs of neighbouring words, and of these the first principal
    components; numbers are filled with the mean and scaled to variance 1; categories become indicators.
    """

    def fit(self, rows: Sequence[Any]) -> Self:
        """Learn from the features of N samples: texts, arrays of numbers (F,), or dicts of named values."""
        self.model_ = WordComponents(COMPONENTS) if isinstance(rows[0], str) else scaled("passthrough")
        self.model_.fit(self._read(rows))
        return self

    def transform(self, rows: Sequence[Any]) -> np.ndarray:
        """Numbers (N, G) of the features of N samples."""
        numbers = self.model_.transform(self._read(rows))
        return np.asarray(numbers.toarray() if hasattr(numbers, "toarray") else numbers, dtype=np.float64)

    def _read(self, rows: Sequence[Any]) -> Any:
        """Texts as they are; a table of anything else, whose types are those of the training split."""
        if isinstance(rows[0], str):
            return list(rows)
        frame = pd.DataFrame(list(rows) if isinstance(rows[0], Mapping) else np.stack([np.ravel(row) for row in rows]))
        frame.columns = [str(name) for name in frame.columns]
        if not hasattr(self, "types_"):
            words = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
            frame = frame.astype(dict.fromkeys(words, "category"))
            self.types_ = frame.dtypes.to_dict()
            return frame
        frame = frame.reindex(columns=list(self.types_))
        for name, dtype in self.types_.items():
            if isinstance(dtype, pd.CategoricalDtype):
                frame[name] = frame[name].where(frame[name].isin(dtype.categories))
        return frame.astype(self.types_)
