"""Explanation of an answer: which parts of the sample made it."""

from typing import Any, Literal

import torch

from metatx.encoding.collate import collate, encoded, to_device
from metatx.errors import SampleError
from metatx.explaining.attribution import METHODS, Scorer, deletion
from metatx.explaining.explanation import Explanation
from metatx.places import Places
from metatx.registry import unknown
from metatx.sequence import TokenSequence
from metatx.task import Task

__all__ = ["Method", "explain"]

Method = Literal["occlusion", "integrated_gradients"]
MOST = 4096  # tokens of a sample


def explain(task: Task, sample: Any, target: Any = None, method: Method = "occlusion") -> Explanation:
    """Explain a task's answer to a sample: the score of each of its parts, and whether to believe them.

    Args:
        task: Task that answers.
        sample: Raw sample, as ``Task.predict`` takes it in a list.
        target: Answer to explain, such as another label; by default the task's own.
        method: Way to the scores: ``"occlusion"``, the fall of the answer's score without a token, or
            ``"integrated_gradients"``.

    Raises:
        ValueError: If the method is unknown.
        SampleError: If the sample cannot be used, or is cut into too many tokens.
        TypeError: If the task's answer has no single score: boxes, masks, vectors, words.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "day": [1, 2] * 16, "kind": [*"ssll"] * 8})
        >>> task = metatx.Task.from_data(metatx.load_backbone("nano"), "tabular", sizes, target="kind")
        >>> why = metatx.explain(task.fit(sizes, epochs=10, lr=1e-2), {"size": 1.5, "day": 1})
        >>> why.target, why.top(1)[0][0]
        ('s', 'size')
    """
    if method not in METHODS:
        raise ValueError(unknown("method", method, list(METHODS)))
    model = task.model
    if model.head.continues:
        raise TypeError(f"The {model.head.name} head writes words, which have no single score to explain.")
    model.eval()
    query = task.queries([sample])[0]
    with torch.no_grad():
        sequence = model.tokens(to_device(collate([encoded(task.tokenizer, query)]), model.device))
    if len(sequence.embeddings) > MOST:
        raise SampleError(f"it is cut into {len(sequence.embeddings):,} tokens; at most {MOST:,} are explained")
    scorer = Scorer(model, sequence, target)
    scores = METHODS[method](scorer)
    return Explanation(
        target=scorer.target,
        score=scorer.score,
        method=method,
        scores=scores,
        places=_places(task, query, sequence, len(scores)),
        deletion=deletion(scorer, scores),
    )


def _places(task: Task, query: Any, sequence: TokenSequence, count: int) -> Places:
    """Places of the tokens, by the tokenizer; by their numbers where it does not say."""
    places = task.tokenizer.token_places(query)
    if places is None:
        return Places([f"token {number + 1}" for number in range(count)])
    if len(places.names) != count:
        raise RuntimeError(
            f"{type(task.tokenizer).__name__}.token_places gives {len(places.names)} places for {count} tokens."
        )
    return places
