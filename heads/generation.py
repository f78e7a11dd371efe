"""Answers in words, which a causal language model writes behind the inputs: captions, answers to questions."""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from metatx.backbone.vocabulary import Vocabulary
from metatx.baselines.answers import ConstantAnswer, NearestAnswer
from metatx.baselines.pipelines import scaled, worded
from metatx.errors import SampleError, short
from metatx.head import Head
from metatx.layers.unregistered import Unregistered
from metatx.registry import unknown
from metatx.values import is_missing, plain_cell

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["GenerationHead"]

NONE = -1  # behind the last token of a text that is shorter than others
PART = "\ufffd"  # stands for bytes of a character that is not whole
FRONT = 2  # numbers of an output that stand before the tokens of the answer


class GenerationHead(Head):
    """Words that a causal language model writes behind the inputs (Frozen, Tsimpoukelli et al. 2021, arXiv 2106.13884).

    The inputs of a sample are one sequence, in their order or in that of a template; the answer's tokens and the end
    token follow. The loss is the cross-entropy of each of these given all before it (teacher forcing), the mean over a
    sample's target in nats a token; what stands before the answer is not counted. Answers are written by transformers'
    ``generate``.

    A target is a text, or a list of texts that are all right, such as the five captions of a picture: training draws
    one of them in each epoch, evaluation uses all.

    An output (B, 2 + N) has the nats of the target's tokens, their number, and the numbers of the answer's tokens, -1
    behind the last. In training N is 0; without a target the first two are 0.

    Args:
        dim: Width of the backbone.
        prompt: Template of what stands before the answer: words, and in braces the names of the inputs, as in
            ``"{photo} Question: {question} Answer:"``; of a task of one modality that of the modality. If it names no
            input, all stand before its words. Special tokens of the model may be written out. The answer follows after
            a space, unless the template ends in one.
        answer: Regular expression that finds the answer in what was written, such as ``"Answer: (.*)"`` where the
            model reasons first: its first group, or all that it matches. None: the answer is all that was written.
        end: Special token that ends an answer; None: that of the model.
        max_target_tokens: Most tokens of a target; a longer one is refused.
        max_new_tokens: Most tokens of an answer, its end token included; None: as many as the longest target of the
            training split has.
        temperature: Number that logits are divided by before a token is drawn, with a fixed seed; 0 always takes the
            most likely token.
        top_p: Share of the probability whose tokens are drawn from, the most likely ones.
        soft_prompt: Number of trained tokens that stand first (prompt tuning, Lester et al. 2021, arXiv 2104.08691).
        stem: The vocabulary of the backbone, ``backbone.stems["text"]``.

    Raises:
        ValueError: If the backbone has no vocabulary, an option is out of its range, or template or expression are
            damaged.
    """

    stem = "text"
    continues = True
    not_exported = "its answer is written word by word"
    primary_metric = "cider"

    def __init__(
        self,
        dim: int,
        prompt: str = "",
        answer: str | None = None,
        end: str | None = None,
        max_target_tokens: int = 256,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        soft_prompt: int = 0,
        stem: Vocabulary | None = None,
    ) -> None:
        super().__init__(dim)
        if stem is None:
            raise ValueError(
                "The generation head needs a causal language model as backbone, such as transformers:FOLDER; this one "
                "has no words."
            )
        for name, value, least in (
            *(("max_target_tokens", max_target_tokens, 1), ("max_new_tokens", max_new_tokens, 1)),
            *(("temperature", temperature, 0), ("soft_prompt", soft_prompt, 0)),
        ):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p is {top_p}; it must be above 0, and at most 1.")
        self._stem = Unregistered(stem)  # the backbone's: no part of this module's state
        self.max_target_tokens = max_target_tokens
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.answer = None if answer is None else _expression(answer)
        self.pieces = _pieces(prompt)
        last = self.pieces[-1] if self.pieces else ""
        self.space = "" if isinstance(last, str) and last[-1:].isspace() else " "
        self.end = stem.end if end is None else _special(stem, end)
        self.soft_prompt = nn.Parameter(torch.randn(soft_prompt, dim) * stem.embedding.weight.std().item())

    @classmethod
    def trains(cls, options: Mapping[str, Any]) -> bool:
        """True if there is a soft prompt."""
        return bool(options.get("soft_prompt"))

    def build(self, end: int, longest: int) -> None:
        """Keep the number of the end token, and the most tokens of a training target, the end token included."""
        self.end = end
        self.longest = longest

    @property
    def words(self) -> Vocabulary:
        """Vocabulary of the backbone."""
        return self._stem.module

    # Targets

    def fit(self, targets: Sequence[Any]) -> dict[str, Any]:
        """``end`` and ``longest``. Raises ValueError if the model names no end token."""
        if self.end is None:
            raise ValueError(
                "The language model's config names no end token; name one with --head.end, such as '<eos>'."
            )
        longest = max((len(numbers) for target in targets for numbers in self._numbers(target)), default=1)
        return {"end": self.end, "longest": min(longest, self.max_target_tokens)}

    def text_target(self) -> bool:
        """Return True."""
        return True

    def screen(self, target: Any) -> None:
        """Raise SampleError for a target without words."""
        _texts(target)

    def encode(self, target: Any) -> Tensor:
        """Numbers of the tokens of each text of a target, int32 (R, L), the end token the last, -1 behind it."""
        rows = self._numbers(target)
        longest = max(map(len, rows))
        if longest > self.max_target_tokens:
            raise SampleError(
                f"the target has {longest:,} tokens; expected at most {self.max_target_tokens:,} "
                "(--head.max-target-tokens)"
            )
        return _padded([torch.tensor(row, dtype=torch.int32) for row in rows])

    def _numbers(self, target: Any) -> list[list[int]]:
        assert self.end is not None
        return [[*self.words.numbers(self.space + text), self.end] for text in _texts(target)]

    # The model

    def check_inputs(self, names: Sequence[str]) -> None:
        """Raise ValueError if the template names an input that there is not."""
        for piece in self.pieces:
            if isinstance(piece, _Name) and piece.name not in names:
                raise ValueError(unknown("input in the prompt", piece.name, list(names)))

    def prompt(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, D) of one sample's prompt, from those of the inputs that are there, by name, in order."""
        parts: list[Tensor] = [self.soft_prompt]
        if not any(isinstance(piece, _Name) for piece in self.pieces):
            parts += inputs.values()
        for piece in self.pieces:
            if isinstance(piece, str):
                numbers = self.words.numbers(piece, special=True)
                parts.append(self.words(torch.tensor(numbers, dtype=torch.long, device=self.soft_prompt.device)))
            elif piece.name in inputs:
                parts.append(inputs[piece.name])
        return torch.cat(parts)

    @property
    def most(self) -> int:
        """Most tokens of an answer."""
        return self.longest if self.max_new_tokens is None else self.max_new_tokens

    def writing(self) -> dict[str, Any]:
        """Arguments of ``Backbone.generate``."""
        return {"end": self.end, "most": self.most, "temperature": self.temperature, "top_p": self.top_p}

    def so_far(self, numbers: Sequence[int]) -> str:
        """Text of the tokens so far; a character that is not whole yet, and space at the end, are left out."""
        text = self.words.text([number for number in numbers if number != self.end])
        return text.rstrip(PART).strip()

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Mean over the samples of the nats a token of their targets; targets are not read, they are in the output."""
        return (output[:, 0] / output[:, 1]).mean()

    # Answers

    def _written(self, row: Tensor) -> tuple[str, bool]:
        """Text of a row of an output, and True if its end token came."""
        numbers = [number for number in row[FRONT:].int().tolist() if number != NONE]
        ended = bool(numbers) and numbers[-1] == self.end
        return self.words.text(numbers[:-1] if ended else numbers).strip(), ended

    def _found(self, text: str) -> str | None:
        """Answer in a text, as ``answer`` says; None if it has none."""
        if self.answer is None:
            return text
        match = self.answer.search(text)
        return None if match is None else (match[1] if self.answer.groups else match[0]).strip()

    def decode(self, output: Tensor) -> np.ndarray:
        """Answers, an array of texts; None where ``answer`` finds none."""
        answers = np.empty(len(output), dtype=object)
        for at, row in enumerate(output.cpu()):
            answers[at] = self._found(self._written(row)[0])
        return answers

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """``prediction``; ``text``, all that was written, if ``answer`` is given; ``ended``, False if it was cut."""
        records = []
        for row in output.cpu():
            text, ended = self._written(row)
            whole = {} if self.answer is None else {"text": text}
            records.append({"prediction": self._found(text), **whole, "ended": ended})
        return records

    def card_note(self) -> str:
        """Sentence that says how answers are written, and how long they may be."""
        how = f"drawn at temperature {self.temperature:g}, top_p {self.top_p:g}" if self.temperature else "greedily"
        return f"Answers are written {how}, of at most {self.most} tokens; longer ones are cut, and `ended` is false."

    # Measures

    def metrics(self) -> "dict[str, Metric]":
        """CIDEr-D, BLEU-4, ROUGE-L, exact match and blank ones of the answers; nats and perplexity of the targets."""
        from metatx.metrics.generation import Blank, Bleu, Cider, ExactMatch, Nats, RougeL

        return {
            "cider": Cider(),
            "bleu4": Bleu(),
            "rouge_l": RougeL(),
            "exact_match": ExactMatch(),
            "blank": Blank(),
            "nats_per_token": Nats(),
            "perplexity": Nats(exponential=True),
        }

    def metric_inputs(self, output: Tensor, target: Any) -> tuple[Any, Any]:
        """Answers with nats and number of the target's tokens, and all texts of each target."""
        from metatx.metrics.generation import Written

        written = [
            Written(self._found(self._written(row)[0]) or "", row[0].item(), row[1].item()) for row in output.cpu()
        ]
        return written, [self.texts(rows) for rows in target]

    def texts(self, rows: Any) -> list[str]:
        """Texts of an encoded target (R, L), each the answer that is found in it, or else all of it."""
        texts = []
        for row in torch.as_tensor(rows).tolist():
            text = self.words.text([number for number in row if number not in (NONE, self.end)]).strip()
            texts.append(self._found(text) or text)
        return texts

    def trivial(self) -> tuple[str, Any]:
        """Estimator that always gives the answer of the training split that is most like all."""
        return "constant answer", ConstantAnswer(self.texts)

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Answer of the sample of the training split that is nearest by features, or by words."""
        prepared: Callable[[Any], Any] = worded if kind == "words" else scaled
        return {} if kind == "boosting" else {"nearest sample's answer": prepared(NearestAnswer(self.texts))}

    def baseline_predict(self, estimator: Any, features: Any) -> Tensor:
        """Tokens of the texts that an estimator gives; it knows no probabilities, so that the nats are NaN."""
        assert self.end is not None
        rows = [
            [np.nan, np.nan, *self.words.numbers(self.space + text), self.end] for text in estimator.predict(features)
        ]
        return _padded([torch.tensor(row) for row in rows])


class _Name:
    """Place of an input in a template.

    Args:
        name: Name of the input.
    """

    def __init__(self, name: str) -> None:
        self.name = name


def _pieces(prompt: str) -> list[str | _Name]:
    """Words and names of inputs in a template, in turn. Raises ValueError if its braces are damaged."""
    pieces: list[str | _Name] = []
    try:
        for words, name, form, conversion in Formatter().parse(prompt):
            if form or conversion or name == "":
                raise ValueError("braces hold the name of an input alone")
            pieces += ([words] if words else []) + ([] if name is None else [_Name(name)])
    except ValueError as error:
        raise ValueError(
            f"The prompt is {short(prompt)}: {error}; expected words, and names of inputs in braces: "
            "'{photo} Question: {question} Answer:'. Braces themselves are doubled."
        ) from None
    return pieces


def _expression(pattern: str) -> re.Pattern[str]:
    """Compiled expression. Raises ValueError if it is none."""
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"answer is {short(pattern)}, which is no regular expression: {error}.") from None


def _special(words: Vocabulary, token: str) -> int:
    """Number of a token by its text. Raises ValueError if it is not one token."""
    numbers = words.numbers(token, special=True)
    if len(numbers) != 1:
        raise ValueError(
            f"end is {short(token)}, which is {len(numbers)} tokens of this language model; expected one, such as "
            "'<|im_end|>'."
        )
    return numbers[0]


def _texts(target: Any) -> list[str]:
    """Texts of a target. Raises SampleError if there is none."""
    several = isinstance(target, list | tuple | np.ndarray)
    cells = [plain_cell(cell) for cell in target] if several else [plain_cell(target)]
    texts = [str(cell).strip() for cell in cells if not is_missing(cell)]
    if not all(cell is None or isinstance(cell, str | int | float | Decimal) for cell in cells):
        raise SampleError(f"the target is {short(target)}; expected a text, or a list of texts")
    texts = [text for text in texts if text]
    if not texts:
        raise SampleError("the target is empty; expected at least one word")
    return texts


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows of one length, with -1 at their ends."""
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=NONE)
