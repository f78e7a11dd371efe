"""Texts and pairs of texts: tokens of a language model's own vocabulary, or CLIP's with trained embeddings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metatx.backbone.vocabulary import Vocabulary
from metatx.data.byte_pairs import clip_pieces, clip_tokens
from metatx.errors import SampleError, read_all, short
from metatx.json_schema import array_schema
from metatx.layers.unregistered import Unregistered
from metatx.padded import PaddedTokens
from metatx.places import Places, WordPlaces
from metatx.progress import tell
from metatx.reading.signatures import signatures_of
from metatx.sequence import TokenSequence, sent
from metatx.tokenizer import Batch, LearnedPositions, Tokenizer
from metatx.values import plain_cell, whole_number

__all__ = ["TextTokenizer"]

CLIP_TOKENS = 49_408  # of CLIP's vocabulary
SEPARATOR = CLIP_TOKENS  # the token between the two texts of a pair


class TextTokenizer(Tokenizer):
    """Tokens of the language model that is the backbone, embedded by its own table; else those of CLIP.

    With a language model, a text becomes what the model was trained on: its template's tokens around the text, or
    between the two of a pair, segment embeddings included. The table stays frozen, or the rows of the training split's
    tokens are trained from where they are. ``min_count``, ``hide`` and ``token_rms_factor`` are for other backbones.

    Other backbones read byte-pair tokens of CLIP (Radford et al. 2021, arXiv 2103.00020), lower-cased, with learned
    positions. The vocabulary is CLIP's, from open_clip's wheel; embeddings are trained, for the tokens of the training
    split alone, and one more stands for all others.

    A sample is a text, the ``Path`` of a UTF-8 ``.txt`` file, or a pair: two texts in a list, a tuple or a row of two
    columns, joined by a separator and told apart by a segment embedding. A text longer than ``context`` becomes several
    overlapping sequences, over which heads pool. For CLIP's tokens, a run of more than 100 characters without a space
    is cut as if it had one there.

    Args:
        dim: Width of the backbone.
        context: Tokens of a sequence, N, the language model's template included.
        overlap: Tokens that two neighbouring sequences of a text share.
        max_tokens: Longer texts are refused.
        min_count: Tokens that the training split shows less often count as unknown.
        hide: Probability that training sees a token as unknown; it trains that embedding, and regularises.
        token_rms_factor: RMS of the tokens at the start of training, in units of that of the stem's tokens, on a
            backbone that does not normalise its input.
            Blocks trained on pictures drown random words of the size of patches: a ridge classifier of 40 intents of
            CLINC150 is right in 0.15 on the last layer of ViT-Ti at 1, 0.31 at 4, 0.75 at 16, and 0.81 on the tokens.
        freeze_stem: Use the language model's table as it is; otherwise train the rows of the training split's tokens.
        stem: The vocabulary of a backbone that is a language model, ``backbone.stems["text"]``; None for others.

    Raises:
        ValueError: If a number is out of its range, or the context longer than the language model's.
    """

    guessed_from = "words"
    tunable = {"hide": (0.0, 0.1, 0.3)}
    dicts = False
    suffixes = (".txt",)
    signatures = signatures_of(suffixes)
    words = True
    stem = "text"
    default_head = "classification"
    free_axes = {"tokens": {0: "words"}}
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
        freeze_stem: bool = True,
        stem: Vocabulary | None = None,
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
        self.freeze_stem = freeze_stem
        self.uses_stem_tokens = stem is not None
        self._shared = None if stem is None else Unregistered(stem)  # the backbone's: no part of this module's state
        self.inner = context  # tokens of the text itself in a sequence
        if stem is not None:
            if context + len(stem.prefix) > stem.context:
                raise ValueError(
                    f"context is {context}; the language model reads at most {stem.context - len(stem.prefix)} tokens."
                )
            self.inner = context - len(stem.suffix)
            if overlap >= self.inner:
                raise ValueError(
                    f"overlap {overlap} leaves nothing new in a context of {context}, {len(stem.suffix)} of them the "
                    "language model's; make it smaller."
                )
            return
        self.positions = LearnedPositions(dim, context)
        self.segments = nn.Parameter(torch.randn(2, dim) * 0.02)

    def build(self, size: int) -> None:
        """Make the embeddings of ``size`` known tokens, V, and of two more: unknown ones, the separator.

        With a language model, they are copies of its rows, and the two more are not needed.
        """
        self.register_buffer("known", torch.zeros(size, dtype=torch.int64))  # the number of each, ascending
        if self._shared is not None:
            self.embedding = nn.Parameter(torch.zeros(size, self.dim), requires_grad=not self.freeze_stem)
            return
        self.embedding = nn.Parameter(torch.randn(2 + size, self.dim) * 0.02)  # unknown, separator, the known
        self.vocabulary = size

    @classmethod
    def trains(cls, options: Mapping[str, Any]) -> bool:
        """True if rows of the language model's table are trained."""
        return not options.get("freeze_stem", True)

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
        if self._shared is not None and self.freeze_stem:
            return {"size": 0}
        for tokens in read_all(self.encode, samples):
            counts.update(tokens["tokens"].tolist())
        found = sorted(token for token, count in counts.items() if count >= self.min_count and token != SEPARATOR)
        if not found:
            raise ValueError(f"No token occurs {self.min_count} times in {len(samples)} texts; lower min_count.")
        facts = {"size": len(found), "known": torch.tensor(found)}
        return facts if self._shared is None else {**facts, "embedding": self._shared.module(facts["known"]).detach()}

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """A text, or a pair, to ``tokens`` int32 (N,): CLIP's numbers, and one more between the two of a pair.

        Of a language model they are its own numbers, and ``segments`` uint8 (N,) says which text each belongs to.
        """
        if self._shared is not None:
            return self._numbered(self._shared.module, sample)
        tokens: list[int] = []
        for name, text in _texts(sample).items():
            found = clip_tokens(text, self.max_tokens)
            if found == []:
                raise SampleError(f"{name} is {short(text)}, without any letter, digit or sign; expected words")
            tokens += [SEPARATOR] * bool(tokens) + (found or [])
            if found is None or len(tokens) > self.max_tokens:
                raise SampleError(f"{name} is too long: more than {self.max_tokens} tokens (max_tokens); shorten it")
        return {"tokens": torch.tensor(tokens, dtype=torch.int32)}

    def _numbered(self, vocabulary: Vocabulary, sample: Any) -> dict[str, Tensor]:
        texts = _texts(sample)
        made = vocabulary.tokenize(list(texts.values()), self.max_tokens)
        name = " and ".join(texts)
        if made is None:
            raise SampleError(f"{name} is too long: more than {self.max_tokens} tokens (max_tokens); shorten it")
        if not made[0]:
            raise SampleError(f"{name} is {short(list(texts.values()))}, without a token; expected words")
        return {
            "tokens": torch.tensor(made[0], dtype=torch.int32),
            "segments": torch.tensor(made[1], dtype=torch.uint8),
        }

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
        if self._shared is not None:
            return self._pretrained(self._shared.module, batch)
        row = self._rows(_numbers(batch))
        if self.training and self.hide:
            row = torch.where((torch.rand(row.shape, device=row.device) < self.hide) & (row != 1), 0, row)
        return self._sequences(batch, row)[0]

    def padded(self, batch: Batch) -> PaddedTokens:
        """Tokens (B, N, D) of texts of one length, a sequence each; a number below 0 stands for no word, at the end.

        Raises:
            ValueError: If they are longer than a sequence.
        """
        numbers = batch["tokens"].long()
        if numbers.shape[1] > self.inner:
            raise ValueError(f"The texts have {numbers.shape[1]} tokens; expected at most {self.inner}, of a sequence.")
        segment = (numbers == SEPARATOR).cumsum(1)
        x = self.embedding[self._rows(numbers)] + self.segments[segment]
        return PaddedTokens(x + self.positions.weight[: numbers.shape[1]], numbers >= 0)

    def preparation(self) -> dict[str, Any]:
        """Numbers that stand for words, and how many a graph reads at most."""
        return {
            "tokenizer": "byte pairs of OpenAI's CLIP, in lower case, without its start and end tokens",
            "separator": SEPARATOR,
            "padding": -1,
            "most": self.inner,
        }

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

    def _cut(self, lengths: list[int]) -> tuple[list[Tensor], tuple[int, ...] | None]:
        """Places of each sequence's tokens among those of all texts, and how many each text has; None: one each."""
        counts = []
        cuts = []
        begin = 0
        for length in lengths:
            starts = range(0, max(1, length - self.overlap), self.inner - self.overlap)
            counts.append(len(starts))
            cuts += [torch.arange(begin + start, begin + min(start + self.inner, length)) for start in starts]
            begin += length
        return cuts, tuple(counts) if max(counts) > 1 else None

    def _sequences(self, batch: Batch, row: Tensor) -> tuple[TokenSequence, Tensor | None]:
        """Sequences of tokens with these rows of the embedding, and which token each is; None: all in turn."""
        number = _numbers(batch)
        lengths = [len(tokens) for tokens in batch["tokens"]]
        first = sent(torch.tensor([0, *lengths[:-1]]).cumsum(0), number.device)  # where each text begins
        x = self.embedding[row] + self.segments[self._segment(number, first, lengths)]
        cuts, per_sample = self._cut(lengths)
        sizes = tuple(len(cut) for cut in cuts)
        chosen = None if per_sample is None else sent(torch.cat(cuts), x.device)
        if chosen is not None:
            x = x[chosen]
        places = sent(torch.cat([torch.arange(size) for size in sizes]), x.device)
        x = x + self.positions.weight[places]
        return TokenSequence(x, sizes, sequences_per_sample=per_sample), chosen

    def _pretrained(self, words: Vocabulary, batch: Batch) -> TokenSequence:
        """Sequences of a language model's tokens, each with the last tokens of its template behind."""
        number = _numbers(batch)
        segment = torch.cat(list(batch["segments"])).long()
        cuts, per_sample = self._cut([len(tokens) for tokens in batch["tokens"]])
        behind = len(words.suffix)
        at = sent(torch.cat([torch.cat([cut, cut[-1:].expand(behind)]) for cut in cuts]), number.device)
        sizes = tuple(len(cut) + behind for cut in cuts)
        ends = sent(torch.tensor(sizes).cumsum(0), number.device)
        chosen = number[at]
        for place, token in enumerate(reversed(words.suffix)):
            chosen[ends - 1 - place] = token
        x = words(chosen)
        if len(self.known):
            row = torch.searchsorted(self.known, chosen).clamp(max=len(self.known) - 1)
            trained = (self.known[row] == chosen)[:, None]
            x = torch.where(trained, self.embedding[row], x)
        x = x + words.segment(segment[at])
        return TokenSequence(x, sizes, sequences_per_sample=per_sample)

    def _rows(self, number: Tensor) -> Tensor:
        """CLIP's numbers to rows of the embedding."""
        at = torch.searchsorted(self.known, number).clamp(max=len(self.known) - 1)
        row = torch.where(self.known[at] == number, at + 2, 0)
        return torch.where(number == SEPARATOR, 1, row)

    def _segment(self, number: Tensor, first: Tensor, lengths: list[int]) -> Tensor:
        """0 in the first text of each sample, 1 from the separator on."""
        separators = (number == SEPARATOR).cumsum(0)  # none is the first token
        counts = sent(torch.tensor(lengths), number.device)
        return separators - separators[first].repeat_interleave(counts, output_size=len(number))

    def token_places(self, sample: Any) -> Places:
        """Pieces of words, of each sequence in turn; a language model's template behind them."""
        tokens = self.encode(sample)["tokens"]
        vocabulary = None if self._shared is None else self._shared.module
        numbers = tokens.tolist()
        pieces = clip_pieces(numbers, SEPARATOR) if vocabulary is None else vocabulary.pieces(numbers)
        behind = [] if vocabulary is None else [" [end]"] * len(vocabulary.suffix)
        cuts, _ = self._cut([len(numbers)])
        return WordPlaces([piece for cut in cuts for piece in [*(pieces[at] for at in cut.tolist()), *behind]])

    def baseline_features(self, sample: Any) -> str:
        """The text as it is; of a pair, both."""
        return " ".join(_texts(sample).values())


def _numbers(batch: Batch) -> Tensor:
    """Numbers of the tokens of all texts, back to back, int64 (T,)."""
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
