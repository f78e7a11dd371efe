"""Checks of ``metatx.testing.check_head``, one function each, in the order of the list at the end."""

import copy
import inspect
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatx.encoding.collate import collate
from metatx.head import Head
from metatx.sequence import TokenSequence
from metatx.testing.tools import apart, close, idle_parameters, learned, rebuilt, refuses, require, same, short

__all__ = ["HEAD_CHECKS", "HeadCase", "SequenceFactory"]

SequenceFactory = Callable[[int, int, int], TokenSequence]  # count, dim, prefix

STEPS = 60  # of Adam, at RATE: enough to learn a few separable samples by heart
RATE = 1e-2
LEARNED = 0.8  # of the first loss; what has learned nothing stays at 1


class HeadCase:
    """A head fitted to targets and trained on random tokens that tell them apart.

    Attributes:
        fresh: Fitted, in evaluation mode; a check that changes it works on a copy.
        sequences: For each number of prefix tokens the batch that it was trained on.
    """

    def __init__(
        self,
        cls: type[Head],
        targets: Sequence[Any],
        dim: int,
        options: dict[str, Any],
        bad_targets: Sequence[Any],
        prefixes: Sequence[int],
        sequence: SequenceFactory | None,
        features: Any,
    ) -> None:
        self.cls = cls
        self.targets = targets
        self.dim = dim
        self.options = options
        self.bad_targets = bad_targets
        self.features = features
        self.fresh = self.fitted()
        self.encoded = collate([{"target": self.fresh.encode(target)} for target in targets])["target"]
        self.sequences = {prefix: self._separable(sequence or _sequences, prefix) for prefix in prefixes}

    def fitted(self) -> Head:
        """A head drawn with seed 0 and fitted, in evaluation mode."""
        torch.manual_seed(0)
        head = self.cls(self.dim, **copy.deepcopy(self.options))
        fitted: Head = learned(head, self.targets)
        return fitted

    def output(self, sequence: TokenSequence, head: Head | None = None) -> Tensor:
        """The output (B, ...) of a head, by default the trained one."""
        head = head or self.trained
        output: Tensor = head(head.pool(sequence))
        return output

    def _separable(self, sequence: SequenceFactory, prefix: int) -> TokenSequence:
        """Random sequences, in each the tokens of one target shifted the same way."""
        torch.manual_seed(1)
        width = self.dim * self.fresh.layers
        batch = sequence(len(self.targets), width, prefix)
        directions: list[Tensor] = []
        for i, target in enumerate(self.encoded):
            known = next((j for j in range(i) if same(self.encoded[j], target)), None)
            directions.append(torch.randn(width) if known is None else directions[known])
        sizes = [len(sample.embeddings) for sample in apart(batch)]
        shift = torch.stack(directions).repeat_interleave(torch.tensor(sizes), dim=0)
        return batch.with_embeddings(batch.embeddings + 2 * shift)

    @property
    def trained(self) -> Head:
        """The head after STEPS steps on all sequences, in evaluation mode."""
        return self._training[0]

    @property
    def losses(self) -> tuple[float, float]:
        """The mean loss over all sequences, before these steps and after."""
        return self._training[1]

    @cached_property
    @torch.enable_grad()
    def _training(self) -> tuple[Head, tuple[float, float]]:
        head = copy.deepcopy(self.fresh)

        def loss() -> Tensor:
            batches = self.sequences.values()
            return torch.stack([head.loss(self.output(batch, head), self.encoded) for batch in batches]).mean()

        trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        before = loss().item()
        head.train()
        if trained:
            optimizer = torch.optim.Adam(trained, lr=RATE)
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return head.eval(), (before, loss().item())


def _sequences(count: int, dim: int, prefix: int) -> TokenSequence:
    lengths = tuple(prefix + 1 + 5 * i % 7 for i in range(count))
    return TokenSequence(torch.randn(sum(lengths), dim), lengths, num_prefix_tokens=prefix)


def check_fit(case: HeadCase) -> None:
    """``fit`` learns the same from the same targets."""
    again = case.fitted()
    require(
        same(dict(again.state_dict()), dict(case.fresh.state_dict())) and again.fitted == case.fresh.fitted,
        "built and fitted twice with the same seed, to the same targets, its state or facts differ; sort "
        "what comes from a set.",
    )


def check_bad_targets_raise_sample_error(case: HeadCase) -> None:
    """``encode`` refuses bad targets with a SampleError of one line."""
    for target in case.bad_targets:
        refuses(case.fresh.encode, target, f"the bad target {short(target)}")


def check_pool_can_be_cached(case: HeadCase) -> None:
    """``pool`` has nothing random or trained in it, for the core keeps what it gives."""
    accepted = inspect.signature(case.cls.__init__).parameters
    strange = [name for name in case.cls.pool_options or () if name not in accepted]
    require(not strange, f"pool_options names {', '.join(strange)}; name options of __init__.")
    training = copy.deepcopy(case.fresh).train()
    for sequence in case.sequences.values():
        pooled = case.fresh.pool(sequence)
        others = [training.pool(sequence) for _ in range(2)]
        if not isinstance(pooled, Tensor):
            continue
        require(
            len(pooled) == len(sequence) and not pooled.requires_grad,
            f"pool gave {tuple(pooled.shape)} for {len(sequence)} samples, or something that trains; give one "
            "row a sample, and leave parameters to forward.",
        )
        require(
            all(torch.equal(pooled, other) for other in others),
            "pool gave the same tokens other features in training; leave what is random to forward.",
        )


def check_output_has_the_right_form(case: HeadCase) -> None:
    """``forward`` returns finite values (B, ...)."""
    for prefix, sequence in case.sequences.items():
        output = case.output(sequence, case.fresh)
        require(
            output.ndim > 0 and len(output) == len(case.targets),
            f"forward gave {tuple(output.shape)} for {len(case.targets)} samples; give one row a sample.",
        )
        require(bool(output.isfinite().all()), f"forward gave NaN or infinite values (prefix={prefix}).")


def check_loss_is_a_finite_scalar(case: HeadCase) -> None:
    """The loss is one finite number."""
    for sequence in case.sequences.values():
        loss = case.fresh.loss(case.output(sequence, case.fresh), case.encoded)
        require(
            loss.ndim == 0 and bool(loss.isfinite()),
            f"loss is {short(loss.detach())}; give the mean over the batch, one finite number.",
        )


def check_loss_depends_on_the_target(case: HeadCase) -> None:
    """The same output is worth another loss for other targets."""
    output = case.output(next(iter(case.sequences.values())))
    orders = [[(i - shift) % len(case.targets) for i in range(len(case.targets))] for shift in range(len(case.targets))]
    turned = [case.fresh.loss(output, _picked(case.encoded, order)) for order in orders]
    require(
        any(not torch.equal(loss, turned[0]) for loss in turned),
        "targets given to the wrong samples cost the same loss; loss must compare output and target.",
    )


def check_gradients_reach_every_parameter(case: HeadCase) -> None:
    """The loss gives every trainable parameter a gradient."""
    head = copy.deepcopy(case.fresh)
    sequence = next(iter(case.sequences.values()))
    idle = idle_parameters(head, lambda: head.loss(case.output(sequence, head), case.encoded))
    require(not idle, f"no gradient reaches {', '.join(idle)}; use them in forward, or set requires_grad_(False).")


def check_head_learns(case: HeadCase) -> None:
    """A few steps on separable samples lower the loss, and what was learned comes from the tokens."""
    before, after = case.losses
    require(
        after < LEARNED * before,
        f"{STEPS} steps on separable samples took the loss from {before:.4g} to {after:.4g}; expected less "
        f"than {LEARNED:g} of it. Does forward use the tokens, and loss the target?",
    )
    for sequence in case.sequences.values():
        other = sequence.with_embeddings(torch.randn_like(sequence.embeddings))
        require(
            not close(case.output(other), case.output(sequence)),
            "other tokens give the same output after training; forward must use the tokens.",
        )


def check_batches_do_not_matter(case: HeadCase) -> None:
    """A sample's output does not depend on its neighbours."""
    for sequence in case.sequences.values():
        together = case.output(sequence)
        for i, sample in enumerate(apart(sequence)):
            require(
                close(case.output(sample), together[i : i + 1]),
                f"sample {i} has another output alone than among others; pool each sample's own tokens (see "
                "TokenSequence.mean), and normalise by no statistics of the batch.",
            )


@torch.no_grad()
def check_rebuilt_is_the_same(case: HeadCase) -> None:
    """Options and state are all that is saved."""
    advice = "fit must return what it learns, as facts for build and tensors for buffers."
    again = rebuilt(case.trained)
    sequence = next(iter(case.sequences.values()))
    expected = case.output(sequence)
    try:
        found = case.output(sequence, again)
        loss = again.loss(found, collate([{"target": again.encode(t)} for t in case.targets])["target"])
        decoded = again.decode(found)
    except Exception as error:
        raise AssertionError(
            f"rebuilt from options and state it raises {type(error).__name__} ({error}); {advice}"
        ) from error
    require(
        torch.equal(found, expected)
        and same(decoded, case.trained.decode(expected))
        and torch.equal(loss, case.trained.loss(expected, case.encoded)),
        f"rebuilt from options and state it gives other answers, or another loss; {advice}",
    )


@torch.no_grad()
def check_answers(case: HeadCase) -> None:
    """``decode``, ``records`` and ``probabilities``: one item a sample, fit for JSON."""
    output = case.output(next(iter(case.sequences.values())))
    count = len(case.targets)
    decoded = case.trained.decode(output)
    require(
        isinstance(decoded, np.ndarray) and len(decoded) == count,
        f"decode gave a {type(decoded).__name__} for {count} samples; give an array of one item each.",
    )
    records = case.trained.records(output)
    require(
        len(records) == count and all(isinstance(record, dict) for record in records),
        f"records gave {short(records)} for {count} samples; give one dict each.",
    )
    try:
        json.dumps(records, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"records cannot be written as JSON ({error}); give plain values.") from error
    try:
        shares = case.trained.probabilities(output)
    except TypeError:
        return
    # Where an answer is a list of labels, each has a probability of its own.
    sums = isinstance(decoded[0], list) or close(shares.sum(1), torch.ones(count))
    require(
        len(shares) == count and sums and bool(((shares >= 0) & (shares <= 1)).all()),
        f"probabilities gave {tuple(shares.shape)}, or values outside 0 to 1, or rows that do not sum to 1; give "
        "(B, K), or TypeError.",
    )


@torch.no_grad()
def check_calibrate_is_saved(case: HeadCase) -> None:
    """The state holds all that ``calibrate`` learns."""
    head = copy.deepcopy(case.trained)
    output = case.output(next(iter(case.sequences.values())))
    head.calibrate(output, case.encoded)
    again = rebuilt(head)
    require(
        same(again.records(output), head.records(output))
        and same(again.metric_inputs(output, case.encoded), head.metric_inputs(output, case.encoded)),
        "calibrated, then rebuilt from options and state, it gives other answers; keep what calibrate learns in "
        "buffers.",
    )


@torch.no_grad()
def check_metrics(case: HeadCase) -> None:
    """``primary_metric`` is among the metrics, says which way is better, and gets better as the head learns."""
    metrics = case.trained.metrics()
    require(
        case.trained.primary_metric in metrics,
        f"primary_metric is {case.trained.primary_metric!r}, but the metrics are {', '.join(metrics)}; name one.",
    )
    require(
        all(metric is not metrics[name] for name, metric in case.trained.metrics().items()),
        "metrics gave the same objects twice; make fresh ones, for they keep count.",
    )
    sequence = next(iter(case.sequences.values()))
    before = _measured(case.trained, case.output(sequence, case.fresh), case.encoded)
    after = _measured(case.trained, case.output(sequence), case.encoded)
    higher = metrics[case.trained.primary_metric].higher_is_better
    require(
        higher is not None,
        f"the metric {case.trained.primary_metric!r} does not say higher_is_better; early stopping needs it.",
    )
    require(
        after >= before if higher else after <= before,
        f"training took {case.trained.primary_metric} from {before:.4g} to {after:.4g}, but higher_is_better is "
        f"{higher}; check metric_inputs, and the metric's direction.",
    )


def _picked(encoded: Any, order: Sequence[int]) -> Any:
    """Targets in another order."""
    return encoded[order] if isinstance(encoded, Tensor) else [encoded[i] for i in order]


def _measured(head: Head, output: Any, encoded: Any) -> float:
    """The primary metric; all of them must be finite."""
    scored = head.metric_inputs(output, encoded)
    values = {}
    for name, metric in head.metrics().items():
        metric.update(*scored)
        values[name] = float(metric.compute())
        require(bool(np.isfinite(values[name])), f"the metric {name} is {values[name]}; see metric_inputs.")
    return values[head.primary_metric]


@torch.no_grad()
def check_baselines(case: HeadCase) -> None:
    """``trivial`` and ``classical`` fit, predict, and are measured like the head."""
    import pandas as pd

    features = case.features
    if features is None:
        features = pd.DataFrame(np.random.default_rng(0).normal(size=(len(case.targets), 3)), columns=[*"abc"])
    entries = dict([case.fresh.trivial()])
    for kind in ("linear", "boosting"):
        entries |= case.fresh.classical(kind)
    for name, estimator in entries.items():
        known = case.encoded
        estimator.fit(features, known.numpy() if isinstance(known, Tensor) else [target.numpy() for target in known])
        answers = case.fresh.baseline_predict(estimator, features)
        expected = case.output(next(iter(case.sequences.values()))).shape
        fitting = answers.shape == expected if isinstance(answers, Tensor) else len(answers) == expected[0]
        found = tuple(answers.shape) if isinstance(answers, Tensor) else f"a list of {len(answers)}"
        require(
            fitting,
            f"baseline_predict gave {found} for {name}; expected {tuple(expected)}, as forward, or a list of as many.",
        )
        _measured(case.fresh, answers, case.encoded)


HEAD_CHECKS = (
    check_fit,
    check_bad_targets_raise_sample_error,
    check_pool_can_be_cached,
    check_output_has_the_right_form,
    check_loss_is_a_finite_scalar,
    check_gradients_reach_every_parameter,
    check_head_learns,
    check_loss_depends_on_the_target,
    check_batches_do_not_matter,
    check_rebuilt_is_the_same,
    check_answers,
    check_calibrate_is_saved,
    check_metrics,
    check_baselines,
)
