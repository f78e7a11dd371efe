"""Model: tokenizer, input norm, backbone, adapter, fusion and head, without data, settings and files."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from metatx.adapters.lora import Adapter
from metatx.adapters.tiers import SHARED, merged, tuned
from metatx.backbone.base import Backbone, check_backbone
from metatx.backbone.generating import Writer
from metatx.continuation import check_continuing, continued, prompts
from metatx.data.arguments import column_names
from metatx.disk.task_files import config_text
from metatx.encoding.columns import field_names, fit_tokenizer
from metatx.encoding.encoded import screened
from metatx.encoding.head_choice import build_head, build_tokenizer, check_inputs, targeted
from metatx.examples import Examples, without_missing
from metatx.fusion import POOLED, Fusion
from metatx.head import Head
from metatx.inputs.columns import resolved
from metatx.inputs.inputs import Inputs, kind_of
from metatx.inputs.through import Entering, backbones_by_name, check_needed, other_backbones
from metatx.layers.input_norm import input_norm
from metatx.layers.novelty import Novelty
from metatx.layers.unregistered import Unregistered
from metatx.registry import COMPOSITE, all_options, create, fact_names, lookup
from metatx.seeding import seeded
from metatx.sequence import TokenSequence, as_sequence
from metatx.spec import Input, TaskSpec
from metatx.tokenizer import Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Model", "build"]


class Model(nn.Module):
    """Tokenizer and head on a shared, frozen backbone, with an adapter if the model changes the backbone's layers.

    Only tokenizer, norm, fusion, head and adapter are submodules. Methods that act on a whole module (``train``,
    ``apply``, ``load_state_dict``), optimizers and checkpoints do not reach a shared backbone.

    Args:
        backbone: Frozen transformer, shared and never copied. A ``trainable_copy`` becomes the model's own backbone.
        tokenizer: Tokenizer of the backbone's width.
        head: Head of the backbone's width.
        adapter: Adapter of this model, if it has one.
        tune: Tier of tuning: one of ``metatx.adapters.tiers.TIERS``, or ``"merged"``. By default it follows from
            adapter and backbone.
        fusion: Fusion of a sample's inputs, where the tokenizer has several.

    Attributes:
        trained: True if the weights were trained. Further training then keeps them if no epoch is better.

    Raises:
        ValueError: If the head reads more layers than the backbone has, or a class token or an attention pool that it
            does not have, or labels places that the tokenizer cuts off; if the fusion does not belong to the inputs, or
            lets the head read one of them alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Tokenizer,
        head: Head,
        adapter: Adapter | None = None,
        tune: str | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        check_backbone(backbone)
        if 0 < backbone.depth < head.layers:
            raise ValueError(f"The head reads {head.layers} layers; this backbone has {backbone.depth}.")
        if head.pooling == "cls" and not backbone.has_cls:
            raise ValueError(
                f"The {head.name} head pools the class token, which {backbone.spec} does not have; pool the mean of "
                'the tokens: --head.pooling mean (in Python: head_options={"pooling": "mean"}).'
            )
        if head.pooling == "attention" and backbone.attention_pool is None:
            raise ValueError(
                f"The head's pooling is 'attention', but the weights of {backbone.spec} have no attention pool, which "
                "those of SigLIP have; choose 'mean', 'cls' or 'both'."
            )
        if head.pooling == "attention" and fusion is not None:
            raise ValueError(
                "The head's pooling is 'attention', which reads the tokens of one input; of several, choose 'mean', "
                "'cls' or 'both'."
            )
        if head.dense and tokenizer.crop_warning:
            raise ValueError(
                f"The {head.name} head answers for the whole of a sample, but the {tokenizer.name} tokenizer cuts its "
                f"edges off: {tokenizer.crop_warning}."
            )
        _check_fusion(backbone, tokenizer, head, fusion)
        if head.continues:
            check_continuing(backbone, tokenizer, head, fusion)
        self._backbone = Unregistered(backbone)
        # The order of registration is that of the optimizer's states in a checkpoint.
        self.own_backbone = None if backbone.frozen else backbone
        self.tokenizer = tokenizer
        self.head = head
        self.adapter = adapter
        self.norm = input_norm(backbone, tokenizer)
        self.fusion = fusion
        self.tune = tune or _tier(backbone, adapter)
        self.trained = False
        self.novelty: Novelty | None = None  # made when training is over, if asked for

    @property
    def backbone(self) -> Backbone:
        """Backbone, shared or the model's own."""
        return self._backbone.module

    @property
    def trainable_parameters(self) -> int:
        """Number of weights that training changes, counted over model and backbone."""
        return sum(p.numel() for p in {*self.parameters(), *self.backbone.parameters()} if p.requires_grad)

    @property
    def device(self) -> torch.device:
        """Device of the backbone, on which the model computes."""
        return self.backbone.device

    @property
    def others(self) -> list[Backbone]:
        """Other frozen backbones, which read some of several inputs first; shared, as the backbone is."""
        return self.tokenizer.others if isinstance(self.tokenizer, Inputs) else []

    def entering(self, batch: dict[str, Any]) -> Entering:
        """Tokens of the inputs that another backbone reads first, as they enter it, by input."""
        return self.tokenizer.entering(batch) if isinstance(self.tokenizer, Inputs) else {}

    def tokens(self, batch: dict[str, Any], read: Mapping[str, TokenSequence] | None = None) -> TokenSequence:
        """Map collated tensors to the sequences that enter the backbone.

        Args:
            batch: Collated fields.
            read: Output of other backbones for the inputs of ``entering``; by default they are called.

        Raises:
            SampleError: If a sample has more tokens than the fusion or the backbone takes.
        """
        sequence = as_sequence(self.tokenizer(batch, read) if read else self.tokenizer(batch))
        sequence = sequence.with_embeddings(self.norm(sequence.embeddings))
        if self.fusion is not None:
            sequence = self.fusion.enter(sequence)
        if self.head.continues:
            sequence = prompts(cast(Writer, self.backbone), self.head, sequence, self.tokenizer.name)
        if not self._passed(batch):
            self.backbone.check_lengths(sequence)
        return sequence

    def features(self, batch: dict[str, Any], layers: int | None = None) -> TokenSequence:
        """Map collated tensors to the backbone's output, of ``layers`` last layers (by default those of the head)."""
        depth = layers or self.head.layers
        sequence: TokenSequence = self.backbone(
            self.tokens(batch), layers=depth, adapter=self.adapter, exchange=self.fusion, start=self._passed(batch)
        )
        return sequence

    def _passed(self, batch: dict[str, Any]) -> int:
        """Number of blocks that the tokens of a batch have passed, see ``Inputs.main_passed``."""
        passed = isinstance(self.tokenizer, Inputs) and self.tokenizer.main_passed(batch)
        return self.fusion.apart if passed and self.fusion is not None else 0

    def forward(self, batch: dict[str, Any], targets: Any = None) -> Tensor:
        """Map collated tensors to the head's output (B, ...).

        Args:
            batch: Collated tensors; the field ``POOLED`` may replace those of inputs whose pooled output is cached.
            targets: Encoded targets, which a head that continues scores; other heads do not read them here.
        """
        if self.head.continues:
            return self.continued(self.tokens(batch), targets)
        if self.fusion is None or POOLED not in batch:
            return self.output(self.features(batch))
        pooled = batch[POOLED]
        others = {name: value for name, value in batch.items() if name != POOLED}
        if others:
            pooled = pooled + self.fusion.pool(self.features(others))
        output: Tensor = self.head(self.head.pool(self.fusion.leave(pooled)))
        return output

    def continued(self, sequence: TokenSequence, targets: Any = None, followers: Sequence[Any] = ()) -> Tensor:
        """Output of a head that continues, for the result of ``tokens``, see ``metatx.continuation``."""
        return continued(cast(Writer, self.backbone), self.head, sequence, targets, self.adapter, followers)

    def fused(self, sequence: TokenSequence) -> TokenSequence:
        """Sequences that the head reads: the backbone's output itself, or what the fusion makes of the inputs."""
        if self.fusion is None:
            return sequence
        return self.fusion.of_main(sequence) if self.head.per_token else self.fusion.leave(self.fusion.pool(sequence))

    def output(self, sequence: TokenSequence) -> Tensor:
        """Map the backbone's output to the head's output (B, ...)."""
        output: Tensor = self.head(self.head.pool(self.fused(sequence)))
        return output

    def embedding(self, sequence: TokenSequence) -> Tensor:
        """Mean of the tokens of each sample, (B, D), prefix tokens left out; of several inputs the fused vector."""
        if self.fusion is None or self.head.continues:
            return sequence.mean()
        return self.fusion.leave(self.fusion.pool(sequence)).mean()

    def learn(self, train: Examples, seed: int = 0, skip_bad: bool = False) -> None:
        """Fit statistics and classes to the training split, and initialise the weights whose shapes depend on them.

        Args:
            train: Training split.
            seed: Seed of the initial weights.
            skip_bad: Leave out samples whose target is missing; by default they raise ValueError.

        Raises:
            ValueError: If no task can be made of the samples, or it could not be saved.
        """
        train = screened(train, self.head, skip_bad)
        with seeded(seed):
            fit_tokenizer(self.tokenizer, train)
            self.head.learn(train.targets if train.targets is not None else [])
        config_text({part.name: {**all_options(part), **part.fitted} for part in (self.tokenizer, self.head)})
        self.to(self.backbone.device).eval()

    def extents(self, queries: Sequence[Any]) -> list[list[tuple[int, ...]]]:
        """Further arguments of ``decode`` and ``records``: the raw samples' extents for a dense head, else none."""
        return [[self.tokenizer.dense_values(query).shape[:-1] for query in queries]] if self.head.dense else []

    def attach(self, adapter: Adapter | None) -> None:
        """Replace the model's adapter; None removes it."""
        self.adapter = adapter
        self.tune = _tier(self.backbone, adapter)

    def merged(self) -> Self:
        """Copy of the model with its own backbone, into which the adapter is folded; its answers are equal.

        Raises:
            ValueError: If the model has no adapter.
        """
        if self.adapter is None:
            raise ValueError(f"There is no adapter to merge: tune is {self.tune!r}, not {' or '.join(SHARED)}.")
        return self._copied(merged(self.backbone, self.adapter), None, "merged")

    def retuned(self, tune: str, options: Mapping[str, Any] | None = None, seed: int = 0) -> Self:
        """Copy of a frozen model in another tier of tuning; its answers are equal until it is trained.

        The head is then trained before the backbone, so that a random head does not harm features that are already good
        (LP-FT, Kumar et al. 2022, arXiv 2202.10054).

        Args:
            tune, options, seed: The arguments of ``metatx.adapters.tiers.tuned``.

        Raises:
            ValueError: If the model is tuned already, or as ``tuned``.
        """
        if self.tune != "frozen":
            raise ValueError(f"The task to start from is tuned already ({self.tune}); start from a frozen one.")
        return self._copied(*tuned(self.backbone, tune, options, seed), tune)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy that shares the frozen backbones, as all models on them do."""
        for backbone in (self.backbone, *self.others):
            if backbone.frozen:
                parts = (*backbone.modules(), *backbone.parameters(), *backbone.buffers())
                memo |= {id(part): part for part in parts}
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def _copied(self, backbone: Backbone, adapter: Adapter | None, tune: str) -> Self:
        """Model with copies of this one's tokenizer and head, on another backbone with another adapter."""
        # A tokenizer that refers to a stem of the backbone gets that of the new one.
        memo: dict[int, Any] = {id(stem): backbone.stems[name] for name, stem in self.backbone.stems.items()}
        for other in self.others:
            memo |= {id(part): part for part in (other, *other.stems.values())}
        parts = copy.deepcopy(self.tokenizer, memo), copy.deepcopy(self.head, memo)
        made = type(self)(backbone, *parts, adapter, tune, copy.deepcopy(self.fusion))
        made.norm.load_state_dict(self.norm.state_dict())
        made.trained = self.trained
        made.novelty = copy.deepcopy(self.novelty)
        return made.eval()


def _check_fusion(backbone: Backbone, tokenizer: Tokenizer, head: Head, fusion: Fusion | None) -> None:
    """Refuse a fusion that does not belong to the tokenizer's inputs or the head. Raises ValueError."""
    if not isinstance(tokenizer, Inputs):
        if fusion is not None:
            raise ValueError(f"A fusion is for several inputs; the {tokenizer.name} tokenizer reads one.")
        return
    if fusion is None:
        raise ValueError("Several inputs need a fusion; Task.from_data builds one, or metatx.model.build_fusion.")
    facts = _facts(backbone, tokenizer, fusion, head.continues)
    if dict(fusion.fitted) != facts:
        raise ValueError(f"The fusion is built for {dict(fusion.fitted)}; the model has {facts}.")
    if backbone.causal and not head.continues:
        fusion.check_causal(backbone.spec)
    fusion.causal = backbone.causal
    if head.per_token:
        if not fusion.joins:
            raise ValueError(
                f"The {head.name} head reads the tokens of {tokenizer.main} alone, so that the other inputs would "
                "change nothing; choose a fusion within the backbone, such as --fusion early."
            )
        tokenizer.requires_main = True
        fusion.keeps_main = True


def _tier(backbone: Backbone, adapter: Adapter | None) -> str:
    """Tier of a model that is built from backbone and adapter."""
    if adapter is not None:
        return adapter.tune
    return "frozen" if backbone.frozen else "full"


def build(backbone: Backbone, spec: TaskSpec, part: "Dataset | Examples") -> tuple[Model, list[str], str | None]:
    """Build a model for data: choose columns, tokenizer and head; nothing is fitted yet.

    Args:
        backbone: Backbone from ``load_backbone``; never changed.
        spec: Choices that make the task.
        part: Training split.

    Returns:
        Model, input columns, and target column.

    Raises:
        ValueError: If a name is unknown, a column is missing or ambiguous, or no task can be made of the data.
    """
    seed = spec.seed or 0
    check_backbone(backbone)
    backbone, adapter = tuned(backbone, spec.tune, spec.adapter_options, seed)
    kind = kind_of(spec)
    name = spec.head
    table = None
    target = None
    targets = None
    if isinstance(part, Examples):
        targets = without_missing(part.targets)
    else:
        table, target, name = targeted(spec, kind, part)
        # A forecast of several columns has no single target column.
        targets = without_missing(table[target][:]) if target in table.column_names else None
    several = [] if isinstance(spec.modality, str) else resolved(spec, table, target)
    given = backbones_by_name(spec.others)
    inputs, others = other_backbones(several, given)
    check_needed(given, others.values())
    with seeded(seed):
        tokenizer, fusion = _tokenizer(spec, backbone, inputs, others)
        columns = [] if table is None else table.column_names
        head = build_head(name, kind, targets, backbone.dim, dict(spec.head_options), columns, backbone.stems)
    model = Model(backbone, tokenizer, head, adapter, fusion=fusion)
    if table is None:
        return model, field_names(part.inputs, tokenizer), None
    named = None if spec.inputs is None else column_names(spec.inputs, table.column_names)
    if isinstance(tokenizer, Inputs):
        named = [column for input in tokenizer.inputs for column in tokenizer.columns(input)]
    target, columns = head.columns(table, target, named, tokenizer)
    alone = None if isinstance(tokenizer, Inputs) else type(tokenizer)
    check_inputs(table, columns, target, named=named is not None, kind=alone)
    return model, columns, target


def _tokenizer(
    spec: TaskSpec, backbone: Backbone, several: Sequence[Input], others: Mapping[str, Backbone]
) -> tuple[Tokenizer, Fusion | None]:
    """Tokenizer of a spec, and the fusion where there are several inputs."""
    if isinstance(spec.modality, str):
        if spec.fusion != "late" or spec.fusion_options or spec.main is not None:
            raise ValueError(
                f"fusion, fusion_options and main are choices of a task with several inputs; this one reads "
                f"{spec.modality} alone. Leave them out, or name the inputs: {{'photo': 'image', 'words': 'text'}}."
            )
        return build_tokenizer(spec.modality, backbone, spec.tokenizer_options), None
    inputs = [each.as_json() for each in several]
    tokenizer = build_tokenizer(COMPOSITE, backbone, {"inputs": inputs, "main": spec.main}, others)
    continues = spec.head is not None and lookup("heads", spec.head).continues
    return tokenizer, build_fusion(spec.fusion, backbone, tokenizer, spec.fusion_options, continues)


def build_fusion(
    name: str, backbone: Backbone, tokenizer: Tokenizer, options: Mapping[str, Any], continues: bool = False
) -> Fusion:
    """Build the fusion called ``name`` for the inputs of a tokenizer. Raises ValueError as ``create``."""
    assert isinstance(tokenizer, Inputs)
    fusion: Fusion = create("fusions", name, backbone.dim, **options)
    return fusion.restore(_facts(backbone, tokenizer, fusion, continues))


def _facts(backbone: Backbone, inputs: Inputs, fusion: Fusion, continues: bool) -> dict[str, Any]:
    """Facts that a fusion is built from."""
    return {
        **({"pools": False} if continues and "pools" in fact_names(type(fusion)) else {}),
        "inputs": list(inputs.inputs),
        "main": inputs.main,
        "depth": backbone.depth,
        "class_token": backbone.has_cls,
    }
