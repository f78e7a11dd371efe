"""Language models of transformers as a backbone: text encoders and causal models, through their input embeddings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Call, Packing
from metatx.backbone.base import Backbone, LayerChanges
from metatx.backbone.generating import Follower, writer, written
from metatx.backbone.language_attention import packed_attention
from metatx.backbone.routing import Route, route_layers
from metatx.backbone.vocabulary import Vocabulary
from metatx.errors import SampleError
from metatx.sequence import TokenSequence

__all__ = ["FAMILIES", "Family", "LanguageBackbone", "LanguageConfig"]

ATTENTION = "metatx_packed"  # name of ``packed_attention`` among transformers' implementations


@dataclass(frozen=True)
class Family:
    """Architectures that are built alike.

    Attributes:
        causal: True if a token attends only to itself and those before it.
        blocks: Name of the list of blocks in transformers' model.
        table: Name of the embedding table there.
        settings: Arguments of transformers' config that decide what the blocks compute, beside the sizes.
        lora_targets: Ends of the names of the attention's linear layers.
    """

    causal: bool
    blocks: str
    table: str
    settings: tuple[str, ...]
    lora_targets: tuple[str, ...]


ENCODER = Family(
    causal=False,
    blocks="encoder.layer",
    table="embeddings.word_embeddings.weight",
    settings=(
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "layer_norm_eps",
        "max_position_embeddings",
        "type_vocab_size",
        "pad_token_id",
    ),
    lora_targets=("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
)
CAUSAL = Family(
    causal=True,
    blocks="layers",
    table="embed_tokens.weight",
    settings=(
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
        "hidden_act",
        "rms_norm_eps",
        "max_position_embeddings",
        "rope_parameters",
        "attention_bias",
        "mlp_bias",
    ),
    lora_targets=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
)
FAMILIES = {  # by transformers' ``model_type``
    "bert": ENCODER,
    "roberta": ENCODER,
    "llama": CAUSAL,
    "mistral": CAUSAL,
    "qwen2": CAUSAL,
    "qwen3": CAUSAL,
}


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Config of a language model: everything that decides what it computes, except the weights.

    Attributes:
        model_type: transformers' name of the architecture, a key of ``FAMILIES``.
        dim: Width of the tokens, D.
        depth: Number of blocks.
        vocabulary: Number of rows of the embedding table.
        settings: Arguments of transformers' config, those of ``Family.settings`` that the architecture has.
        tokenizer: Content of the model's ``tokenizer.json``.
        tied: True if the embedding table also predicts the next token, so that the model writes.
        output: True if a layer of its own predicts the next token.
        end: Number of the token that ends what the model writes; None where its config names none.
    """

    model_type: str
    dim: int
    depth: int
    vocabulary: int
    settings: Mapping[str, Any]
    tokenizer: str
    tied: bool = False
    output: bool = False
    end: int | None = None
    attention_pool = None

    @property
    def family(self) -> Family:
        """Family of the architecture."""
        return FAMILIES[self.model_type]

    @property
    def class_token(self) -> bool:
        """True: the token that stands for a sequence is the template's first, or the last of a causal model."""
        return True

    @property
    def first_position(self) -> int:
        """Row of the position embedding that the first token has; RoBERTa's rows begin behind the padding's."""
        return self.settings["pad_token_id"] + 1 if self.model_type == "roberta" else 0

    @property
    def context(self) -> int:
        """Most tokens of a sequence, prefix tokens included."""
        longest: int = self.settings["max_position_embeddings"]
        return longest - self.first_position

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from the dict that ``to_dict`` returned, or from its JSON.

        Raises:
            KeyError, TypeError: If a field is missing or unknown.
        """
        config = cls(**values)
        FAMILIES[config.model_type]  # raises KeyError
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class LanguageBackbone(Backbone):
    """Text encoder (BERT's kind) or causal language model (Llama's kind), with transformers' own layers.

    Linear layers take all tokens of a batch at once, attention takes groups of sequences of equal length. The positions
    of each sequence begin at zero; in a causal model, sequences that attend to one another are one, in their order. An
    encoder adds the embeddings of positions and of the first segment and normalises, as the model does with
    ``inputs_embeds``. Prefix tokens are those of the model's template. Names of the layers are those of transformers'
    ``AutoModel``, so that peft reads the adapters. Arguments and errors are those of ``Backbone``.

    Attributes:
        vocabulary: Embedding table and tokenizer, the stem for texts.
    """

    config_type = LanguageConfig
    kind = "language"
    config: LanguageConfig
    vocabulary: Vocabulary
    rotary_emb: nn.Module | None
    _route: Any

    def _build(self, config: LanguageConfig) -> None:
        import transformers
        from transformers.masking_utils import sdpa_mask

        library: Any = transformers
        library.AttentionInterface.register(ATTENTION, packed_attention)
        library.AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        family = config.family
        settings: Any = library.AutoConfig.for_model(
            config.model_type,
            hidden_size=config.dim,
            num_hidden_layers=config.depth,
            vocab_size=config.vocabulary,
            attn_implementation=ATTENTION,
            **config.settings,
        )
        model: Any = library.AutoModel.from_config(settings)
        types = config.settings.get("type_vocab_size") or 0
        self.vocabulary = Vocabulary(config.vocabulary, config.dim, types, config.context, config.tokenizer, config.end)
        self.cls_token = nn.Parameter(torch.empty(len(self.vocabulary.prefix), config.dim))
        self.causal = family.causal
        self.writes = config.tied or config.output
        self.lora_targets = family.lora_targets
        self.blocks_name = family.blocks
        self.embeddings = nn.Module()
        self.rotary_emb = None
        if family.causal:
            self.embeddings.LayerNorm = nn.Identity()
            self.layers = model.layers
            self.norm = model.norm
            if config.output:
                self.lm_head = nn.Linear(config.dim, config.vocabulary, bias=False)
            with torch.device("cpu"):  # not on the meta device: its buffers are constants that nothing else would set
                self.rotary_emb = type(model.rotary_emb)(settings)
        else:
            self.embeddings.position_embeddings = model.embeddings.position_embeddings
            self.embeddings.LayerNorm = model.embeddings.LayerNorm
            self.encoder = nn.Module()
            self.encoder.layer = model.encoder.layer
            self.norm = nn.Identity()
        self.stem = None
        self.attention_pool = None
        self._settings = settings
        self._route = Route()
        route_layers(list(self.blocks.modules()), self._route)

    @property
    def blocks(self) -> nn.ModuleList:  # type: ignore[override]
        """The model's blocks, under transformers' name."""
        layers = self.get_submodule(self.blocks_name)
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def norm_pre(self) -> nn.Module:  # type: ignore[override]
        """The encoder's norm of the embeddings; a causal model has none."""
        return self.embeddings.get_submodule("LayerNorm")

    @property
    def has_cls(self) -> bool:
        """True if a token stands for the sequence: the template's first, or the last of a causal model."""
        return self.causal or self.num_prefix_tokens > 0

    @property
    def stems(self) -> Mapping[str, nn.Module]:
        """The vocabulary, by the name ``"text"``."""
        return {"text": self.vocabulary}

    @property
    def token_rms(self) -> float:
        """Root mean square of the embedding table."""
        return self.vocabulary.embedding.weight.square().mean().sqrt().item()

    @property
    def adds_positions(self) -> bool:
        """True for an encoder."""
        return not self.causal

    def check_lengths(self, sequence: TokenSequence) -> None:
        """Raise SampleError if a sequence is longer than the model can read, prefix tokens left out.

        In a causal model, sequences that attend to one another are one.
        """
        prefix = self.num_prefix_tokens
        sizes = [length + prefix for length in sequence.lengths]
        if self.causal:
            sizes = sequence.unit_lengths(prefix, self.depth)
        longest = max(sizes, default=0) - prefix
        most = self.config.context - prefix
        if longest > most:
            raise SampleError(
                f"a sequence has {longest:,} tokens; {self.spec} reads at most {most:,}. Shorten the sample, or choose "
                "options of its tokenizer that give fewer tokens"
            )

    def entering(self, x: Tensor, sequence: TokenSequence, packing: Packing) -> Tensor:
        """Add the encoder's embeddings of positions, from zero in each sequence, and of the first segment."""
        if self.causal:
            return x
        table: Tensor = self.embeddings.get_submodule("position_embeddings").weight  # type: ignore[assignment]
        positions = table[packing.places() + self.config.first_position]
        if sequence.trailing is not None:
            positions = positions * packing.arrange(self._has_position(sequence))[:, None]
        types = self.vocabulary.types
        return x + positions if types is None else x + positions + types[0]

    def _has_position(self, sequence: TokenSequence) -> Tensor:
        """False for the trailing tokens, in the order of the batch with prefix tokens, (T + S P,)."""
        flags = []
        for length, trailing in zip(sequence.lengths, sequence.trailing or (), strict=True):
            flags += [True] * (self.num_prefix_tokens + length - trailing) + [False] * trailing
        return torch.tensor(flags, device=self.device)

    def reader(
        self, sequence: TokenSequence, packing: Packing, call: Call, adapter: LayerChanges | None
    ) -> Callable[[int, Tensor], Tensor]:
        """Return a function that applies a block to all tokens at once; its attention alone goes by groups."""
        given: dict[str, Any] = {"packing": packing}
        if self.rotary_emb is not None:
            places = packing.unit_places()[None]
            given["position_embeddings"] = self.rotary_emb(self.cls_token, position_ids=places)
        blocks: Any = self.blocks

        def read(number: int, x: Tensor) -> Tensor:
            self._route.call = None if adapter is None else call
            try:
                out: Tensor = blocks[number](x[None], **given)[0]
                return out
            finally:
                self._route.call = None

        return read

    @property
    def context(self) -> int:
        """Most tokens of a sequence, prefix tokens left out, see ``Writer``."""
        return self.config.context - self.num_prefix_tokens

    def token_embeddings(self, numbers: Tensor) -> Tensor:
        """Rows of the embedding table, (T,) to (T, D), see ``Writer``."""
        rows: Tensor = self.vocabulary(numbers)
        return rows

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows each, (T, D) to (T, V), see ``Writer``."""
        return nn.functional.linear(tokens, self._output)

    @property
    def _output(self) -> Tensor:
        return (self.lm_head if self.config.output else self.vocabulary.embedding).weight

    @torch.no_grad()
    def generate(
        self,
        sequence: TokenSequence,
        *,
        end: int,
        most: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        adapter: LayerChanges | None = None,
        followers: Sequence[Follower | None] = (),
    ) -> list[Tensor]:
        """Numbers of the tokens that follow each sequence, see ``Writer``."""
        prompts = [
            torch.cat([self.cls_token, part]) for part in torch.split(sequence.embeddings, list(sequence.lengths))
        ]
        packing = Packing(sequence.lengths, self.num_prefix_tokens, sequence.embeddings.device)
        self._route.call = None if adapter is None else adapter.on(self, packing)
        try:
            drawing = {"temperature": temperature, "top_p": top_p}
            return written(self._writer, prompts, end=end, most=most, followers=followers, **drawing)
        finally:
            self._route.call = None

    @cached_property
    def _writer(self) -> Any:
        words = self.vocabulary.embedding
        return writer(self._settings, self.blocks, self.norm, words, self.rotary_emb, self._output)

    def adaptable_layers(self) -> dict[str, nn.Linear | nn.LayerNorm]:
        """Linear layers of the blocks; LayerNorms of the embeddings and in the blocks, which a causal model lacks."""
        within = (f"{self.blocks_name}.", "embeddings.")
        return {
            name: layer
            for name, layer in self.named_modules()
            if isinstance(layer, nn.Linear | nn.LayerNorm) and name.startswith(within)
        }
