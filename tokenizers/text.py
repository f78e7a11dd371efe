"""Texts and pairs of texts: CLIP's byte-pair tokens, each with a trained embedding."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metatx.data.byte_pairs import clip_tokens
from metatx.errors import SampleError, read_all, short
from metatx.json_schema import array_schema
from metatx.progress import tell
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence
from metatx.tokenizer import Batch, LearnedPositions, Tokenizer
from metatx.values import plain_cell, whole_number

__all__ = ["TextTokenizer"]

CLIP_TOKENS = 49_408  # of CLIP's vocabulary
SEPARATOR = CLIP_TOKENS  # the token between the two texts of a pair


class TextTokenizer(Tokenizer):
    """Byte-pair tokens of CLIP (Radford et al. 2021, arXiv 2103.00020), lower-cased, with learned positions.

    The vocabulary is CLIP's, from open_clip's wheel; embeddings are trained, for the tokens of the training split
    alone, and one more stands for all others. A sample is a text, the ``Path`` of a UTF-8 ``.txt`` file, or a pair: two
    texts in a list, a tuple or a row of two columns, joined by a separator and told apart by a segment embedding.
    A text longer than ``context`` becomes several overlapping sequences, over which heads pool. A run of more than
    100 characters without a space is cut as if it had one there.

    Args:
        dim: Width of the backbone.
        context: Tokens of a sequence, N.
        overlap: Tokens that two neighbouring sequences of a text share.
        max_tokens: Longer texts are refused.
        min_count: Tokens that the training split shows less often count as unknown.
        hide: Probability that training sees a token as unknown; it trains that embedding, and regularises.
        token_rms_factor: RMS of the tokens at the start of training, in units of that of the stem's tokens, on a
            backbone that does not normalise its input.
            Blocks trained on pictures drown random words of the size of patches: a ridge classifier of 40 intents of
            CLINC150 is right in 0.15 on the last layer of ViT-Ti at 1, 0.31 at 4, 0.75 at 16, and 0.81 on the tokens.

    Raises:
        ValueError: If a number is out of its range.
    """

    guessed_from = "words"
    dicts = False
    suffixes = (".txt",)
    signatures = signatures_of(suffixes)
    words = True
    default_head = "classification"
    classical = "words"
    known: Tensor

    def __init__(
        self,
        dim: int,
        context: int = 128,
        overlap: int = 32,
        max_tokens: int = 8192,
        min_count: int = 1,
        hide: float = 0.1,
        token_rms_factor: float = 16.0,
    ) -> None:
        super().__init__(dim)
        for name, value, least in (("context", context, 1), ("overlap", overlap, 0), ("min_count", min_count, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")
        if overlap >= context:
            raise ValueError(f"overlap {overlap} leaves nothing new in a context of {context}; make it smaller.")
        if max_tokens < context:
            raise ValueError(f"max_tokens is {max_tokens}; it must be at least the context, {context}.")
        if not 0 <= hide < 1:
            raise ValueError(f"hide is {hide}; it must be a probability below 1.")
        if not token_rms_factor > 0:
            raise ValueError(f"token_rms_factor is {token_rms_factor}; it must be above 0.")
        self.context = context
        self.overlap = overlap
        self.max_tokens = max_tokens
        self.min_count = min_count
        self.hide = hide
        self.token_rms_factor = token_rms_factor
        self.positions = LearnedPositions(dim, context)
        self.segments = nn.Parameter(torch.randn(2, dim) * 0.02)

    def build(self, size: int) -> None:
        """Make the embeddings of ``size`` known tokens, V, and of two more: unknown ones, the separator."""
        self.register_buffer("known", torch.zeros(size, dtype=torch.int64))  # CLIP's number of each, ascending
        self.embedding = nn.Parameter(torch.randn(2 + size, self.dim) * 0.02)  # unknown, separator, the known
        self.vocabulary = size

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Words."""
        return isinstance(value, str)

    def text_columns(self, inputs: Sequence[str]) -> list[str]:
        """All input columns."""
        return list(inputs)

    @classmethod
    def preview(cls, sample: Any) -> str:
        """The text; of a pair, both, a line each."""
        return "\n".join(_texts(sample).values())

    def fit(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Collect the tokens of the training split.

        Raises:
            ValueError: If none is frequent enough.
        """
        counts: Counter[int] = Counter()
        named = sum(isinstance(sample, str) and sample.lower().endswith(self.suffixes) for sample in samples)
        if named > len(samples) / 2:
            tell(
                f"{named} of {len(samples)} texts look like names of .txt files; they are taken by their words. For "
                "what is in the files give a folder of them, or in Python a pathlib.Path for each."
            )
        for tokens in read_all(self.encode, samples):
            counts.update(tokens["tokens"].tolist())
        found = sorted(token for token, count in counts.items() if count >= self.min_count and token != SEPARATOR)
        if not found:
            raise ValueError(f"No token occurs {self.min_count} times in {len(samples)} texts; lower min_count.")
        return {"size": len(found), "known": torch.tensor(found)}

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A text, or a pair, to ``tokens`` int32 (N,): CLIP's numbers, and one more between the two of a pair."""
        tokens: list[int] = []
        for name, text in _texts(sample).items():
            found = clip_tokens(text, self.max_tokens)
            if found == []:
                raise SampleError(f"{name} is {short(text)}, without any letter, digit or sign; expected words")
            tokens += [SEPARATOR] * bool(tokens) + (found or [])
            if found is None or len(tokens) > self.max_tokens:
                raise SampleError(f"{name} is too long: more than {self.max_tokens} tokens (max_tokens); shorten it")
        return {"tokens": torch.tensor(tokens, dtype=torch.int32)}

    def json_schema(self) -> dict[str, Any]:
        """A text, or a pair."""
        text = {"type": "string", "minLength": 1}
        pair = {**array_schema("texts", cells=text), "minItems": 2, "maxItems": 2}
        return {"anyOf": [text, pair], "examples": ["A few words to read."]}

    def from_json(self, value: Any) -> Any:
        """The value as it is: words are never the name of a file."""
        return value

    def forward(self, batch: Batch) -> TokenSequence:
        """Tokens of B texts, of any lengths, to the S sequences that they are cut into."""
        row = self._rows(_numbers(batch))
        if self.training and self.hide:
            row = torch.where((torch.rand(row.shape, device=row.device) < self.hide) & (row != 1), 0, row)
        return self._sequences(batch, row)[0]

    def words_of(self, batch: Batch) -> list[Tensor]:
        """Numbers of the known tokens of each text; negative for unknown ones and the separator."""
        return [self._rows(tokens.long()) - 2 for tokens in batch["tokens"]]

    def hide_words(self, batch: Batch, hidden: Sequence[Tensor]) -> tuple[TokenSequence, Tensor]:
        """Tokens as ``forward`` gives them in evaluation, hidden ones as unknown, and the numbers of the hidden."""
        row = self._rows(_numbers(batch))
        flat = torch.cat(list(hidden)).to(row.device)
        sequence, places = self._sequences(batch, torch.where(flat, 0, row))
        words = torch.where(flat, row - 2, -1)
        return sequence, words if places is None else words[places]

    def _sequences(self, batch: Batch, row: Tensor) -> tuple[TokenSequence, Tensor | None]:
        """Sequences of tokens with these rows of the embedding, and which token each is; None: all in turn."""
        number = _numbers(batch)
        lengths = [len(tokens) for tokens in batch["tokens"]]
        first = torch.tensor([0, *lengths[:-1]], device=number.device).cumsum(0)  # where each text begins
        x = self.embedding[row] + self.segments[self._segment(number, first, lengths)]
        counts = []
        cuts = []
        for begin, length in zip(first.tolist(), lengths, strict=True):
            starts = range(0, max(1, length - self.overlap), self.context - self.overlap)
            counts.append(len(starts))
            cuts += [torch.arange(begin + start, begin + min(start + self.context, length)) for start in starts]
        sizes = tuple(len(cut) for cut in cuts)
        chosen = torch.cat(cuts).to(x.device) if max(counts) > 1 else None
        if chosen is not None:
            x = x[chosen]
        places = torch.cat([torch.arange(size) for size in sizes]).to(x.device)
        x = x + self.positions.weight[places]
        return TokenSequence(x, sizes, sequences_per_sample=None if chosen is None else tuple(counts)), chosen

    def _rows(self, number: Tensor) -> Tensor:
        """CLIP's numbers to rows of the embedding."""
        at = torch.searchsorted(self.known, number).clamp(max=len(self.known) - 1)
        row = torch.where(self.known[at] == number, at + 2, 0)
        return torch.where(number == SEPARATOR, 1, row)

    def _segment(self, number: Tensor, first: Tensor, lengths: list[int]) -> Tensor:
        """0 in the first text of each sample, 1 from the separator on."""
        separators = (number == SEPARATOR).cumsum(0)  # none is the first token
        return separators - separators[first].repeat_interleave(torch.tensor(lengths, device=number.device))

    def baseline_features(self, sample: Any) -> str:
        """The text as it is; of a pair, both."""
        return " ".join(_texts(sample).values())


def _numbers(batch: Batch) -> Tensor:
    """CLIP's numbers of all texts, back to back, int64 (T,)."""
    return torch.cat(list(batch["tokens"])).long()


def _texts(sample: Any) -> dict[str, str]:
    """The one text of a sample, or the two of a pair, by name."""
    fields = list(sample.values()) if isinstance(sample, dict) else sample
    if not isinstance(fields, list | tuple):
        return {"text": _text("text", fields)}
    if len(fields) not in (1, 2):
        raise SampleError(f"found {len(fields)} texts; expected one, or a pair of two")
    names = list(sample) if isinstance(sample, dict) else [f"text {i + 1}" for i in range(len(fields))]
    return {str(name): _text(str(name), field) for name, field in zip(names, fields, strict=True)}


def _text(name: str, value: Any) -> str:
    number = plain_cell(value)
    if isinstance(number, int | float | Decimal):  # digits that a table, or who read it, took for a number
        whole = whole_number(number)
        value = str(number if whole is None or isinstance(number, bool) else whole)
    if isinstance(value, Path):
        value = _read(name, value)
    if not isinstance(value, str):
        raise SampleError(f"{name} is {short(value)}; expected words")
    if not value.strip():
        raise SampleError(f"{name} is empty; expected at least one word")
    return value


def _read(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SampleError(f"{name} names the file {path}, which does not exist") from None
    except UnicodeDecodeError:
        raise SampleError(f"{name} names the file {path}, which is no UTF-8 text; convert it") from None
    except OSError as error:
        raise SampleError(f"{name} names the file {path}, which cannot be read: {error.strerror}") from None
