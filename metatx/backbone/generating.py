"""Text that a causal language model writes: transformers' own ``generate`` on the backbone's own layers."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from metatx.sequence import TokenSequence

__all__ = ["Follower", "Writer", "writer", "written"]

# Called with the tokens of a text so far whenever it has one more, its end token included; False ends the text there.
Follower: TypeAlias = Callable[[Sequence[int]], bool]


class Writer(Protocol):
    """Backbone that can say which token follows: a causal language model."""

    @property
    def context(self) -> int:
        """Most tokens of a prompt and what follows it, together."""

    def token_embeddings(self, numbers: Tensor) -> Tensor:
        """Embeddings of tokens by their numbers, (T,) to (T, D)."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows each, (T, D) as the backbone's ``forward`` returns them to (T, V)."""

    def generate(
        self,
        sequence: TokenSequence,
        *,
        end: int,
        most: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        adapter: Any = None,
        followers: Sequence[Follower | None] = (),
    ) -> list[Tensor]:
        """Numbers of the tokens that follow each sequence, int64 (N,), the end token included where it comes.

        Args:
            sequence: Output of a tokenizer, each sequence a prompt.
            end: Number of the token that ends a text.
            most: Most tokens of a text, which bounds one whose end does not come.
            temperature: Number that logits are divided by before a token is drawn; 0 takes the most likely one.
            top_p: Share of the probability whose tokens are drawn from, the most likely ones.
            adapter: Changes of the layers by one task, see ``Backbone.forward``.
            followers: For each sequence a function that follows its text, or None; none at all: nobody follows.
        """

    def __call__(self, sequence: TokenSequence, *, adapter: Any = None) -> TokenSequence:
        """Run sequences through the blocks, see ``Backbone.forward``."""


def writer(
    settings: Any,
    blocks: nn.ModuleList,
    norm: nn.Module,
    table: nn.Embedding,
    rotary: nn.Module | None,
    output: Tensor,
) -> Any:
    """Causal model of transformers that consists of layers of a backbone, and shares their weights.

    Args:
        settings: transformers' config of the model.
        blocks, norm, table, rotary: Layers of the backbone.
        output: Matrix of the layer that predicts the next token, a parameter: the table's, or one of its own.
    """
    import transformers

    library: Any = transformers
    with torch.device("meta"):  # its own layers are replaced
        model: Any = library.AutoModelForCausalLM.from_config(settings)
    model.model.layers = blocks
    model.model.norm = norm
    model.model.embed_tokens = table
    model.model.rotary_emb = rotary
    model.lm_head.weight = output
    return model.eval()


def written(
    model: Any,
    prompts: Sequence[Tensor],
    *,
    end: int,
    most: int,
    temperature: float,
    top_p: float,
    followers: Sequence[Follower | None] = (),
) -> list[Tensor]:
    """Numbers of the tokens that follow each prompt, the end token included where it comes.

    Args:
        model: Result of ``writer``.
        prompts: Embeddings of each prompt, (N, D).
        end: Number of the token that ends a text.
        most: Most tokens of a text.
        temperature: Number that logits are divided by before a token is drawn; 0 takes the most likely one.
        top_p: Share of the probability whose tokens are drawn from, the most likely ones.
        followers: See ``Writer.generate``.
    """
    import transformers

    library: Any = transformers
    device = prompts[0].device
    longest = max(map(len, prompts))
    embeddings = torch.zeros(
        len(prompts), longest, prompts[0].shape[1], device=device, dtype=model.lm_head.weight.dtype
    )
    mask = torch.zeros(len(prompts), longest, device=device, dtype=torch.long)
    for row, prompt in enumerate(prompts):  # padded on the left: what is written stands behind the prompt
        embeddings[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    config = library.GenerationConfig(max_new_tokens=most, eos_token_id=end, pad_token_id=end, **drawing)
    arguments: dict[str, Any] = {"inputs_embeds": embeddings, "attention_mask": mask, "generation_config": config}
    if any(followers):
        arguments["stopping_criteria"] = library.StoppingCriteriaList([_following(followers, end)])
    with torch.autocast(device.type, enabled=False):  # it would cast all weights anew for each token
        rows: Tensor = model.generate(**arguments)
    return [_until(row, end) for row in rows]


def _following(followers: Sequence[Follower | None], end: int) -> Callable[..., Tensor]:
    """Stopping criterion of transformers that tells followers the texts so far, and ends those that they end."""

    def over(rows: Tensor, scores: Any, **given: Any) -> Tensor:
        goes_on = [
            follow is None or follow(_until(row, end).tolist()) for row, follow in zip(rows, followers, strict=True)
        ]
        return ~torch.tensor(goes_on, device=rows.device)

    return over


def _until(row: Tensor, end: int) -> Tensor:
    """Tokens of a row up to the first end token."""
    ends = (row == end).nonzero()
    return row[: int(ends[0]) + 1] if len(ends) else row
