"""Continuation: the words of a head behind the inputs, scored in training and written as answers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metatx.backbone.base import Backbone, LayerChanges
from metatx.backbone.generating import Follower, Writer
from metatx.errors import SampleError
from metatx.fusion import Fusion
from metatx.head import Head
from metatx.inputs.inputs import Inputs
from metatx.seeding import seeded
from metatx.sequence import LATE, TokenSequence, ranges, sent
from metatx.tokenizer import Tokenizer

__all__ = ["check_continuing", "continued", "prompts"]

SEED = 0  # of the tokens that are drawn, so that a sample always has the same answer


def check_continuing(backbone: Backbone, tokenizer: Tokenizer, head: Head, fusion: Fusion | None) -> None:
    """Refuse a head that continues where the backbone writes no words, or the inputs are no sequence.

    Args:
        backbone, tokenizer, head, fusion: Parts of the model.

    Raises:
        ValueError: If something does not fit.
    """
    if not backbone.writes:
        kind = "it was saved without its output layer" if backbone.causal else "it is no causal language model"
        raise ValueError(
            f"The {head.name} head writes words, which {backbone.spec} cannot: {kind}. Choose a causal language model "
            "that was saved with its output layer, such as --backbone transformers:FOLDER."
        )
    head.check_inputs(list(tokenizer.inputs) if isinstance(tokenizer, Inputs) else [tokenizer.name])
    if fusion is None:
        return
    plain = not fusion.blocks and fusion.fuse_at in (0, LATE) and type(fusion).enter is Fusion.enter
    if not plain or fusion.product or (fusion.dropout and not fusion.joins):
        raise ValueError(
            f"The {head.name} head reads the inputs one after the other, as one sequence; choose --fusion late, or "
            "early for --fusion.dropout, without other options."
        )


def prompts(backbone: Writer, head: Head, sequence: TokenSequence, name: str) -> TokenSequence:
    """One sequence a sample, which the head makes of the sequences of its inputs.

    Args:
        backbone, head: Parts of the model.
        sequence: Sequences of the inputs.
        name: Name of the input of a task that has one.

    Raises:
        SampleError: If an input is cut into several sequences, or a prompt leaves no room for an answer.
    """
    parts = iter(torch.split(sequence.embeddings, list(sequence.lengths)))
    sources = iter(sequence.sources or (name,) * len(sequence.lengths))
    made = []
    for count in sequence.sequences_per_sample or (1,) * len(sequence):
        inputs: dict[str, Tensor] = {}
        for _ in range(count):
            source = next(sources)
            if source in inputs:
                raise SampleError(
                    f"{source} is cut into several sequences, but the {head.name} head reads one; shorten "
                    "it, or choose options of its tokenizer that do not cut it, such as a longer context"
                )
            inputs[source] = next(parts)
        made.append(head.prompt(inputs))
    if not min(map(len, made), default=1):
        raise SampleError(f"the prompt of the {head.name} head is empty; give it words, or the inputs it names")
    lengths = tuple(map(len, made))
    most = head.writing()["most"]
    if max(lengths) + most > backbone.context:
        raise SampleError(
            f"the prompt has {max(lengths):,} tokens, and the answer may have {most:,}; the language model reads at "
            f"most {backbone.context:,} together. Shorten the sample, or lower --head.max-new-tokens"
        )
    return TokenSequence(torch.cat(made), lengths)


def continued(
    backbone: Writer,
    head: Head,
    sequence: TokenSequence,
    targets: Any,
    adapter: LayerChanges | None,
    followers: Sequence[Follower | None] = (),
) -> Tensor:
    """Output (B, 2 + N) of a head that continues: nats of the targets' tokens, their number, the answers' tokens.

    In training one text of each target is drawn and scored, and nothing is written; else all are scored.

    Args:
        backbone, head, adapter: Parts of the model.
        sequence: Result of ``prompts``.
        targets: Encoded targets, (B, R, L), or a list of B (R, L) where shapes differ; None: nothing is scored.
        followers: For each sample a function that follows its answer, see ``Writer.generate``.
    """
    if targets is None:
        score = sequence.embeddings.new_zeros(len(sequence), 2)
    else:
        score = _scored(backbone, sequence, [_rows(target, head.training) for target in targets], adapter)
    if head.training:
        return score
    with seeded(SEED):
        rows = backbone.generate(sequence, adapter=adapter, followers=followers, **head.writing())
    written = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    return torch.cat([score, written.to(score)], dim=1)


def _rows(target: Tensor, draw: bool) -> list[Tensor]:
    """Numbers of the tokens of each text of a target (R, L), or of one that is drawn."""
    if draw and len(target) > 1:
        target = target[torch.randint(len(target), (1,))]
    return [row[row >= 0].long() for row in target]


def _scored(
    backbone: Writer, sequence: TokenSequence, targets: Sequence[Sequence[Tensor]], adapter: LayerChanges | None
) -> Tensor:
    """Nats of the tokens of all texts of a sample behind its prompt, and their number, (B, 2)."""
    parts = torch.split(sequence.embeddings, list(sequence.lengths))
    owners = [at for at, rows in enumerate(targets) for _ in rows]
    rows = [row for of_sample in targets for row in of_sample]
    sizes = [len(row) for row in rows]
    embedded = backbone.token_embeddings(torch.cat([row[:-1] for row in rows]))
    texts = torch.split(embedded, [size - 1 for size in sizes])
    joined = [piece for at, text in zip(owners, texts, strict=True) for piece in (parts[at], text)]
    lengths = tuple(len(parts[at]) + size - 1 for at, size in zip(owners, sizes, strict=True))
    read = backbone(TokenSequence(torch.cat(joined), lengths), adapter=adapter)
    ends = torch.tensor(read.lengths).cumsum(0)
    counts = torch.tensor(sizes)
    # The last token of the prompt predicts the first.
    places = sent(ranges(ends - counts, counts), read.embeddings.device)
    logits = backbone.logits(read.embeddings[places])
    nats = F.cross_entropy(logits.float(), torch.cat(rows), reduction="none")
    owner = torch.tensor(owners, device=nats.device).repeat_interleave(counts.to(nats.device))
    score = torch.stack([nats, torch.ones_like(nats)], dim=1)
    return score.new_zeros(len(sequence), 2).index_add(0, owner, score)
