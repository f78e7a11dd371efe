"""Vocabulary: the pretrained layer of a language model that turns words into tokens."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Vocabulary"]

LONGEST = 64  # most characters a token, on average; a longer text is refused before its tokens are made


class Vocabulary(nn.Module):
    """Embedding table of a language model, and the tokenizer that gives the numbers of its rows.

    Args:
        size: Number of rows of the table, V.
        dim: Width of the model, D.
        types: Number of segment embeddings, of which BERT has two; 0 for none.
        context: Most tokens of a sequence, those of the template included.
        tokenizer: Content of the model's ``tokenizer.json``.
        end: Number of the token that ends what the model writes; None where its config names none.

    Attributes:
        prefix: Numbers of the tokens that the model's template puts before a text, such as ``[CLS]``; the backbone puts
            them before every sequence.
        suffix: Numbers of the tokens that it puts behind a text, such as ``[SEP]``.

    Raises:
        ValueError: If the tokenizer is damaged, or has a token without a row in the table.
    """

    def __init__(self, size: int, dim: int, types: int, context: int, tokenizer: str, end: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, dim)
        self.types = nn.Parameter(torch.empty(types, dim)) if types else None
        self.context = context
        self.end = end
        self._json = tokenizer
        largest = max([*self._tokenizer.get_vocab().values(), -1 if end is None else end], default=0)
        if largest >= size:
            raise ValueError(
                f"The tokenizer does not match the weights: it has tokens up to {largest}, the embedding table {size} "
                "rows; give the tokenizer.json that the model was trained with."
            )
        template = self._tokenizer.encode("a")
        inner = [place for place, special in enumerate(template.special_tokens_mask) if not special]
        self.prefix = tuple(template.ids[: inner[0]])
        self.suffix = tuple(template.ids[inner[-1] + 1 :])

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = self._read()
        tokenizer.encode_special_tokens = True  # it would take the words "[SEP]" of a text for the template's token
        return tokenizer

    @cached_property
    def _templates(self) -> Any:
        return self._read()

    def _read(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer: Any = Tokenizer.from_str(self._json)
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"tokenizer.json is damaged, or not transformers': {error}.") from None
        # Its file may cut texts, and pad them.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def tokenize(self, texts: Sequence[str], most: int) -> tuple[list[int], list[int]] | None:
        """Numbers of the tokens of one text, or of a pair, and the segment (0, 1) of each.

        The template's tokens before the first text and behind the last are left out.

        Returns:
            None if there are more than ``most`` tokens.
        """
        # A long text is refused before all of its tokens are made; each word gives one at least.
        if sum(map(len, texts)) > LONGEST * most or sum(len(text.split()) for text in texts) > most:
            return None
        if len(texts) > 1 and not self.suffix:  # a causal model's template has nothing between two texts
            texts = ["\n".join(texts)]
        encoded = self._tokenizer.encode(*texts)
        inner = slice(len(self.prefix), len(encoded.ids) - len(self.suffix))
        numbers: list[int] = encoded.ids[inner]
        return (numbers, encoded.type_ids[inner]) if len(numbers) <= most else None

    def numbers(self, words: str, *, special: bool = False) -> list[int]:
        """Numbers of the tokens of a text, of any length, without the template's.

        Args:
            words: Text.
            special: Read ``"<|im_end|>"`` as the special token of that name; else as words.
        """
        tokenizer = self._templates if special else self._tokenizer
        numbers: list[int] = tokenizer.encode(words, add_special_tokens=False).ids
        return numbers

    def text(self, numbers: Sequence[int]) -> str:
        """Text of the tokens, without special ones."""
        text: str = self._tokenizer.decode(list(numbers), skip_special_tokens=True)
        return text

    def pieces(self, numbers: Sequence[int]) -> list[str]:
        """Texts of tokens, one by one; a token that begins a word has a space before it."""
        texts = []
        for at, number in enumerate(numbers):
            before = self.text(numbers[max(at - 1, 0) : at])
            pair = self.text(numbers[max(at - 1, 0) : at + 1])
            texts.append(pair[len(before) :] if pair.startswith(before) else f" {self.text([number])}")
        return texts

    def forward(self, numbers: Tensor) -> Tensor:
        """Rows of the table for the numbers of tokens: (T,) to (T, D)."""
        rows: Tensor = self.embedding(numbers)
        return rows

    def segment(self, segments: Tensor) -> Tensor | int:
        """Difference of tokens of ``segments`` (T,) from those of segment 0, as which all tokens are read: (T, D)."""
        return 0 if self.types is None else (self.types - self.types[0])[segments.clamp(max=len(self.types) - 1)]
