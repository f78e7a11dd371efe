"""Estimators of scikit-learn over a frozen backbone: a classifier, a regressor, and a transformer to features."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d, validate_data

from metatx.backbone.base import Backbone
from metatx.backbone.loading import load_backbone
from metatx.disk.task_files import content_of
from metatx.errors import short
from metatx.inputs.inputs import kind_of
from metatx.progress import told_as
from metatx.settings import TrainingSettings
from metatx.spec import Modality, TaskSpec
from metatx.task import Task

__all__ = ["MetaTxClassifier", "MetaTxEmbedder", "MetaTxRegressor"]

SEEDS = 2**31 - 1
FEWEST = 10  # samples for validation; with fewer none are held out


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """Samples of any modality in scikit-learn's manner, and a state that can be pickled without pickled weights."""

    modality: Modality
    backbone: str | Backbone
    random_state: Any
    folder: str | Path | None = None
    spec: Mapping[str, Any] | None

    @property
    def takes_rows(self) -> bool:
        """True if a sample is a row of a table, which scikit-learn can check."""
        return kind_of(TaskSpec.of(self.modality)).takes_row

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _samples(self, X: Any, *, reset: bool) -> Any:
        """Check samples; return a DataFrame where they are rows, else a list of raw samples."""
        if not self.takes_rows:
            if isinstance(X, str | Path | Mapping) or not hasattr(X, "__len__") or not len(X):
                raise ValueError(f"X is {short(X)}; expected a sequence of at least one sample.")
            return list(X.iloc[:, 0] if isinstance(X, pd.DataFrame) and X.shape[1] == 1 else X)
        table = X.to_pandas() if hasattr(X, "to_pandas") else X
        if isinstance(table, pd.DataFrame) and table.size:
            validate_data(self, table, reset=reset, skip_check_array=True)
            return table.set_axis([str(name) for name in table.columns], axis=1)
        values = validate_data(self, table, reset=reset, dtype=None, ensure_all_finite="allow-nan")
        return pd.DataFrame(values, columns=[f"x{number}" for number in range(values.shape[1])]).infer_objects()

    def _loaded(self) -> Backbone:
        return self.backbone if isinstance(self.backbone, Backbone) else load_backbone(self.backbone)

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(SEEDS))

    def _choices(self, samples: Any, seed: int, **choices: Any) -> dict[str, Any]:
        """Choices of the task's spec; those of ``spec`` come first."""
        if len(samples) < 2:
            raise ValueError("X has 1 sample; expected at least two.")
        if isinstance(samples, pd.DataFrame):
            free = (f"target{'_' * count}" for count in range(len(samples.columns) + 1))
            choices["target"] = next(name for name in free if name not in samples.columns)
            if isinstance(self.modality, str):
                choices["inputs"] = list(samples.columns)
        return {"seed": seed, **choices, **(self.spec or {})}

    def _asked(self, X: Any) -> Any:
        """Check samples for the fitted task."""
        check_is_fitted(self)
        return self._samples(X, reset=False)

    def _keep(self, task: Task) -> None:
        self.task_ = task
        if self.folder is not None:
            task.save_pretrained(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """State that names the folder of the task; without ``folder``, it holds the files of such a folder."""
        state = dict(super().__getstate__())
        task = state.pop("task_", None)
        if task is not None and self.folder is not None:
            folder = Path(self.folder).resolve()
            state["saved"] = (str(folder), content_of(folder))
        elif task is not None:
            with TemporaryDirectory(prefix="metatx-") as place:
                root = task.save_pretrained(Path(place) / "task")
                state["saved"] = {path.name: path.read_bytes() for path in root.iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("saved", None)
        super().__setstate__(state)
        backbone = self.backbone if isinstance(self.backbone, Backbone) else None
        if isinstance(saved, tuple):
            folder, content = saved
            if Path(folder).is_dir() and content_of(Path(folder)) != content:
                raise ValueError(f"{folder} holds another task than the one that this estimator was pickled with.")
            self.task_ = Task.from_pretrained(folder, backbone)
        elif saved is not None:
            with TemporaryDirectory(prefix="metatx-") as place:
                for name, content in saved.items():
                    (Path(place) / name).write_bytes(content)
                self.task_ = Task.from_pretrained(place, backbone)


class _Predictor(_Estimator):
    """Estimator whose task is trained."""

    head: str

    def __init__(
        self,
        modality: Modality = "tabular",
        *,
        backbone: str | Backbone = "nano",
        tune: str = "frozen",
        spec: Mapping[str, Any] | None = None,
        epochs: int | None = None,
        steps: int = 500,
        batch_size: int = 64,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        settings: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.1,
        folder: str | Path | None = None,
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.modality = modality
        self.backbone = backbone
        self.tune = tune
        self.spec = spec
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.settings = settings
        self.validation_fraction = validation_fraction
        self.folder = folder
        self.random_state = random_state
        self.verbose = verbose

    def _pairs(self, X: Any, y: Any, dtype: str | None) -> tuple[Any, np.ndarray]:
        """Check samples and targets (B,)."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        samples = self._samples(X, reset=True)
        missing = int(pd.isna(np.asarray(y, dtype=object)).sum())
        if missing:
            raise ValueError(f"Input y contains NaN: {missing} targets are missing; leave these samples out.")
        targets = column_or_1d(check_array(y, ensure_2d=False, dtype=dtype, input_name="y"), warn=True)
        check_consistent_length(samples, targets)
        return samples, targets

    def _train(self, samples: Any, targets: np.ndarray, groups: np.ndarray | None) -> None:
        """Train a task on samples, some of which are held out to choose the epoch; evenly from ``groups``."""
        seed = self._seed()
        named = ("epochs", "steps", "batch_size", "lr", "weight_decay")
        chosen = {name: getattr(self, name) for name in named} | {"seed": seed} | dict(self.settings or {})
        settings = TrainingSettings.of(**chosen)
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is {self.validation_fraction}; expected a share from 0 to below 1.")
        train: tuple[Any, Any] = (samples, targets)
        validation = None
        if round(self.validation_fraction * len(targets)) >= FEWEST:
            if groups is not None and np.bincount(groups).min() < 2:
                groups = None  # a class with one sample cannot be in both parts
            split = train_test_split(
                samples, targets, test_size=self.validation_fraction, random_state=seed, stratify=groups
            )
            train = (split[0], split[2])
            validation = (split[1], split[3])
        with told_as(lambda line: line if self.verbose or not line.startswith("epoch ") else None):
            task = Task.from_data(
                self._loaded(), self.modality, train, **self._choices(samples, seed, head=self.head, tune=self.tune)
            )
            self._keep(task.fit(train, validation, settings=settings))


class MetaTxClassifier(ClassifierMixin, _Predictor):  # type: ignore[misc]
    """Classifier: a tokenizer and a head that are trained, and a frozen backbone between them.

    ``X`` is an array or a table where a sample is a row, as for ``modality="tabular"``; else a sequence of raw samples,
    such as texts or names of files.

    Args:
        modality: Name of the modality, or the inputs of a sample, see ``metatx.TaskSpec``.
        backbone: Name or folder of the backbone, or a backbone, which several estimators may share.
        tune: Part of the backbone that is trained: frozen, scale, norm, lora or full.
        spec: Further choices of ``metatx.TaskSpec`` by name, such as ``tokenizer_options``.
        epochs, steps, batch_size, lr, weight_decay: Attributes of ``metatx.TrainingSettings``.
        settings: Further attributes of ``metatx.TrainingSettings`` by name.
        validation_fraction: Share of the samples that is held out to choose the epoch; none if these are fewer than 10.
        folder: Folder to which ``fit`` saves the task. A pickled estimator then holds this path; without one, it holds
            the files of such a folder as bytes. The backbone is loaded again by its name.
        random_state: Seed, or generator, of weights, order and split.
        verbose: Tell the numbers of epochs.

    Attributes:
        task_: Fitted task.
        classes_: Labels (K,), sorted.

    Example:
        >>> from metatx.sklearn import MetaTxClassifier
        >>> sizes, kinds = [[1.0], [2.0], [8.0], [9.0]] * 8, ["low", "low", "high", "high"] * 8
        >>> print(MetaTxClassifier(epochs=20, lr=1e-2).fit(sizes, kinds).predict([[1.5], [8.5]]))
        ['low' 'high']
    """

    head = "classification"

    def fit(self, X: Any, y: Any) -> Self:
        """Train on samples and their labels (B,).

        Raises:
            ValueError: If samples or labels cannot be used, or there is only one class.
        """
        samples, labels = self._pairs(X, y, dtype=None)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_.tolist()[0]!r}; expected at least two.")
        self._train(samples, labels, codes)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities (B, K) of ``classes_``."""
        samples = self._asked(X)
        answered: Any = self.task_.head.classes
        order = [answered.index(label) for label in self.classes_.tolist()]
        return self.task_.predict_proba(samples)[:, order]

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels (B,)."""
        chosen = self.predict_proba(X).argmax(1)
        labels: np.ndarray = self.classes_[chosen]
        return labels


class MetaTxRegressor(RegressorMixin, _Predictor):  # type: ignore[misc]
    """Regressor: a tokenizer and a head that are trained, and a frozen backbone between them.

    Args:
        modality, backbone, tune, spec: See ``MetaTxClassifier``, as for all others.

    Attributes:
        task_: Fitted task.

    Example:
        >>> from metatx.sklearn import MetaTxRegressor
        >>> numbers = [[float(number)] for number in range(64)]
        >>> model = MetaTxRegressor(epochs=20, lr=1e-2).fit(numbers, [2 * number for (number,) in numbers])
        >>> model.score(numbers, [2 * number for (number,) in numbers]) > 0.9
        True
    """

    head = "regression"

    def fit(self, X: Any, y: Any) -> Self:
        """Train on samples and their numbers (B,). Raises ValueError if either cannot be used."""
        samples, numbers = self._pairs(X, y, dtype="numeric")
        self._train(samples, numbers, None)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers (B,)."""
        samples = self._asked(X)
        return self.task_.predict(samples)


class MetaTxEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Estimator):  # type: ignore[misc]
    """Transformer of samples to what the frozen backbone makes of them; nothing is trained.

    ``fit`` gives the tokenizer its statistics. Where the backbone has a stem for the modality, such as its patch
    embedding for images, the tokenizer starts from that; else its weights are random. Features of a trained task are
    those of ``metatx.Task.embed``.

    Args:
        modality, backbone, spec: See ``MetaTxClassifier``.
        folder, random_state: See ``MetaTxClassifier``.

    Attributes:
        task_: Task with the tokenizer, and a head that is not used.

    Example:
        >>> from metatx.sklearn import MetaTxEmbedder
        >>> MetaTxEmbedder("text").fit_transform(["a red door", "two rooms"]).shape
        (2, 192)
    """

    def __init__(
        self,
        modality: Modality = "tabular",
        *,
        backbone: str | Backbone = "nano",
        spec: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
        random_state: Any = 0,
    ) -> None:
        self.modality = modality
        self.backbone = backbone
        self.spec = spec
        self.folder = folder
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Let the tokenizer learn the statistics of samples; ``y`` is not used."""
        samples = self._samples(X, reset=True)
        unused = np.arange(len(samples))  # a task has a head; this one stays as it starts
        self._keep(
            Task.from_data(
                self._loaded(),
                self.modality,
                (samples, unused),
                **self._choices(samples, self._seed(), head="regression"),
            )
        )
        self._n_features_out = self.task_.backbone.dim
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Map samples to features (B, D), float32."""
        samples = self._asked(X)
        return self.task_.embed(samples)
