"""Does a tokenizer, head or fusion keep its contract? Functions for all who write one, with any test runner.

    from metatx.testing import check_head, check_inputs, check_tokenizer

    check_tokenizer(ECGTokenizer, recordings, bad_samples=[recording[:3]])
    check_head(RankingHead, targets)
    check_inputs(Task.from_data(backbone, {"photo": "image", "facts": "tabular"}, data, fusion="mine"), samples)

In the spirit of scikit-learn's ``check_estimator``: AssertionError at the first break of the contract; its
message names the check and says what was found, what is expected and how to mend it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from metatx.backbone.stem import Stem
from metatx.head import Head
from metatx.task import Task
from metatx.testing.heads import HEAD_CHECKS, HeadCase, SequenceFactory
from metatx.testing.inputs import INPUTS_CHECKS, InputsCase
from metatx.testing.stacked import check_stacked_outputs, check_stacked_tokens
from metatx.testing.tokenizers import TOKENIZER_CHECKS, TokenizerCase
from metatx.tokenizer import Tokenizer

__all__ = ["check_head", "check_inputs", "check_tokenizer"]


def check_tokenizer(
    cls: type[Tokenizer],
    samples: Sequence[Any],
    *,
    dim: int = 48,
    bad_samples: Sequence[Any] = (),
    options: dict[str, Any] | None = None,
    stem: Stem | None = None,
) -> None:
    """Check a tokenizer on raw samples; about a second for small ones.

    Args:
        cls: The class; it is built, fitted to the samples and rebuilt here.
        samples: At least two that differ, as ``encode`` takes them. The more of the modality they show the
            more is checked: different lengths, gaps, rare values, and two of equal shape.
        dim: Width of the tokens.
        bad_samples: Samples that ``encode`` must refuse with SampleError.
        options: Options of the tokenizer, by name.
        stem: For a tokenizer that takes one.

    Raises:
        AssertionError: At the first break of the contract.
        ValueError: If there are fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"check_tokenizer needs two or more samples that differ, not {len(samples)}.")
    _run(
        (*TOKENIZER_CHECKS, check_stacked_tokens),
        cls,
        lambda: TokenizerCase(cls, samples, dim, bad_samples, options or {}, stem),
    )


def check_head(
    cls: type[Head],
    targets: Sequence[Any],
    *,
    dim: int = 48,
    options: dict[str, Any] | None = None,
    bad_targets: Sequence[Any] = (),
    prefixes: Sequence[int] = (1, 0),
    sequence: SequenceFactory | None = None,
    features: Any = None,
) -> None:
    """Check a head on raw targets, with random tokens in place of a backbone's; a few seconds.

    Args:
        cls: The class; it is built, fitted to the targets, trained for some steps and rebuilt here.
        targets: At least four, as ``encode`` takes them, not all equal.
        dim: Width of the tokens.
        options: Options of the head, by name.
        bad_targets: Targets that ``encode`` must refuse with SampleError, besides None and a bare ``object()``.
        prefixes: Numbers of tokens that the backbone may put in front. Leave out 0 for options that need CLS.
        sequence: ``sequence(count, dim, prefix)`` gives random sequences of that many samples as a backbone
            would; for heads that need a grid, several sequences a sample, or context. By default of mixed lengths.
        features: Inputs of the baselines, one row a target; by default a table of random numbers.

    Raises:
        AssertionError: At the first break of the contract.
        ValueError: If there are fewer than four targets, or the head continues.
    """
    if cls.continues:
        raise ValueError(
            f"check_head has random tokens in the place of a backbone's, but {cls.__name__} continues what a language "
            "model reads; test it in a task on a small one."
        )
    if len(targets) < 4:
        raise ValueError(f"check_head needs four or more targets, not {len(targets)}.")
    bad = [None, object(), *bad_targets]
    _run(
        (*HEAD_CHECKS, check_stacked_outputs),
        cls,
        lambda: HeadCase(cls, targets, dim, options or {}, bad, prefixes, sequence, features),
    )


def check_inputs(task: Task, samples: Sequence[Any]) -> None:
    """Check how the inputs of a task meet: its fusion and its tokenizers together, on the backbone; some seconds.

    Every input must change what the head reads; a missing input must be one that is not there; a sample must not depend
    on its neighbours; the order of the inputs must not matter before training. The task itself is not changed.

    Args:
        task: Task of two or more inputs; it need not be trained.
        samples: At least two, as ``predict`` takes them, that have every input and differ in each.

    Raises:
        AssertionError: At the first break of the contract.
        ValueError: If the task has one input, or there are fewer than two samples.
    """
    if task.model.fusion is None or len(task.model.fusion.inputs) < 2:
        raise ValueError(f"check_inputs needs a task of several inputs; this one reads {task.tokenizer.name} alone.")
    if len(samples) < 2:
        raise ValueError(f"check_inputs needs two or more samples that differ, not {len(samples)}.")
    _run(INPUTS_CHECKS, type(task.model.fusion), lambda: InputsCase(task.model, task.queries(samples)))


def _run(checks: Sequence[Callable[[Any], None]], cls: type, case: Callable[[], Any]) -> None:
    """All checks in order; what one raises says which it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            subject = case()
        except AssertionError as error:
            raise AssertionError(f"{cls.__name__} fails check_fit: {error}") from error.__cause__
        for check in checks:
            try:
                check(subject)
            except AssertionError as error:
                raise AssertionError(f"{cls.__name__} fails {check.__name__}: {error}") from error.__cause__
            except Exception as error:
                error.add_note(f"{cls.__name__} raised this in {check.__name__}.")
                raise
