"""Mixture of labelled tasks that a backbone is trained on, beside pairs or alone, its tokenizers forgotten on purpose.

The steps of a mixture share the loop of contrastive pretraining: the sequences of a step's tasks pass through the
backbone together with those of its pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from metatx.backbone.base import Backbone
from metatx.encoding.collate import to_device
from metatx.encoding.encoded import EncodedDataset
from metatx.examples import Examples
from metatx.layers.unregistered import Unregistered
from metatx.model import build
from metatx.registry import all_options
from metatx.sequence import TokenSequence, as_sequence
from metatx.spec import TaskSpec
from metatx.training.facts import data_fact

__all__ = ["MixtureSettings", "Source", "TaskMixture"]


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """Settings of a mixture of tasks.

    Args:
        tasks: Tasks of one step; if there are fewer sources, all of them.
        batch_size: Samples of a task in one step, in each process.
        temperature: Sources are drawn in proportion to their size to the power of ``1 / temperature``: 1, as if all
            samples were in one heap; large, all equally often.
        weight: Weight of the mean loss of the tasks, beside the loss of the pairs.
        momentum: Share of the former scale of a task's loss that stays after a step. A loss is divided by its scale.
        forget_every: Number of steps after which tokenizer and head of a source start anew (active forgetting, Chen et
            al. 2023, arXiv 2307.01163), each source at a time of its own; 0: never.

    Raises:
        ValueError: If a number is out of range.
    """

    tasks: int = 4
    batch_size: int = 32
    temperature: float = 2.0
    weight: float = 1.0
    momentum: float = 0.98
    forget_every: int = 0

    def __post_init__(self) -> None:
        for name in ("tasks", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("temperature", "weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be above 0.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum:g}; it must be at least 0 and below 1.")
        if self.forget_every < 0:
            raise ValueError(f"forget_every is {self.forget_every}; it must be at least 0.")


class Source(nn.Module):
    """Task of a mixture: its samples, and the tokenizer, the norm behind it and the head that are trained with them.

    Args:
        backbone: Backbone that the tokens pass through.
        spec: Choices that make the task, of one modality. The head reads the last block alone, whatever ``layers`` is.
        part: Training split, a table or examples.
        seed: Seed of the initial weights.

    Attributes:
        data: Encoded samples, augmented.

    Raises:
        ValueError: If no task can be made of the data, samples are bad, the task reads several inputs, or its head
            continues.
    """

    def __init__(self, backbone: Backbone, spec: TaskSpec, part: Any, seed: int) -> None:
        super().__init__()
        if not isinstance(spec.modality, str):
            raise ValueError(f"A source of a mixture reads one modality; this one reads {spec.said}.")
        self._backbone = Unregistered(backbone)
        model, columns, target = build(backbone, spec, part)
        if model.head.layers != 1:
            spec = replace(spec, head_options={**spec.head_options, "layers": 1})
            model, columns, target = build(backbone, spec, part)
        head = model.head
        if head.continues:
            raise ValueError(f"The {head.name} head continues; a mixture has tasks whose answers a head computes.")
        self._spec = spec
        self._part = part
        self.examples = part
        if not isinstance(part, Examples):
            self.examples = head.examples(part, columns, target, model.tokenizer, "source")
        model.learn(self.examples, seed)
        self.tokenizer = model.tokenizer
        self.norm = model.norm
        self.head = model.head
        self.data = EncodedDataset.of(self.examples, self.tokenizer, self.head, augment=True)

    def own(self) -> dict[str, nn.Parameter]:
        """Parameters by name, without those that a tokenizer shares with the backbone."""
        shared = {id(parameter) for parameter in self._backbone.module.parameters()}
        return {name: parameter for name, parameter in self.named_parameters() if id(parameter) not in shared}

    @torch.no_grad()
    def restart(self, seed: int) -> None:
        """Give the source's own parameters the initial values of a seed; what was learned as facts stays."""
        model, _, _ = build(self._backbone.module, self._spec, self._part)
        model.learn(self.examples, seed)
        for name, parameter in self.own().items():
            parameter.copy_(model.get_parameter(name))

    def tokens(self, batch: dict[str, Any]) -> TokenSequence:
        """Map collated tensors to the sequences that enter the backbone."""
        sequence = as_sequence(self.tokenizer(batch))
        return sequence.with_embeddings(self.norm(sequence.embeddings))

    def loss(self, sequence: TokenSequence, targets: Any) -> Tensor:
        """Mean loss of a batch, a scalar, from the backbone's output."""
        loss: Tensor = self.head.loss(self.head(self.head.pool(sequence)), targets)
        return loss


Joined = list[tuple[str, TokenSequence, Any]]  # names of sources, tokens that enter the backbone, targets


class TaskMixture(nn.Module):
    """Sources, of which each step draws a few.

    Args:
        sources: Sources by name, at least one.
        settings: Settings of the mixture.
        seed: Seed of all draws.

    Attributes:
        scales: Running scale of the loss of each source, (sources,); 0 before its first step.

    Raises:
        ValueError: If there is no source, or a name holds a dot.
    """

    scales: Tensor

    def __init__(self, sources: Mapping[str, Source], settings: MixtureSettings, seed: int) -> None:
        super().__init__()
        if not sources:
            raise ValueError("A mixture needs a source; name a data set or a prior.")
        wrong = [name for name in sources if "." in name]
        if wrong:
            raise ValueError(f"The name of a source is {wrong[0]!r}; a name holds no dot.")
        self.sources = nn.ModuleDict(sources)
        self.settings = settings
        self.seed = seed
        self.register_buffer("scales", torch.zeros(len(sources)))
        sizes = np.array([float(len(self.source(name).data)) for name in sources]) ** (1 / settings.temperature)
        self.shares = sizes / sizes.sum()

    def source(self, name: str) -> Source:
        """Source by its name."""
        source = self.sources[name]
        assert isinstance(source, Source)
        return source

    def drawn(self, number: int) -> list[str]:
        """Names of the sources of the step of a number, the same in every process."""
        names = list(self.sources)
        count = min(self.settings.tasks, len(names))
        rng = np.random.default_rng((self.seed, number))
        return [names[place] for place in rng.choice(len(names), count, replace=False, p=self.shares)]

    def enter(self, number: int, rank: int, device: torch.device) -> Joined:
        """Draw the samples of a step in one process, and map them to tokens."""
        joined: Joined = []
        for name in self.drawn(number):
            source = self.source(name)
            place = list(self.sources).index(name)
            size = min(self.settings.batch_size, len(source.data))
            rng = np.random.default_rng((self.seed, number, rank, place))
            source.data.seed = self.seed
            source.data.epoch = number
            positions = rng.choice(len(source.data), size, replace=False).tolist()
            batch, targets = to_device(list(source.data.batch(positions)), device)
            joined.append((name, source.tokens(batch), targets))
        return joined

    def loss(self, joined: Joined, leaving: Sequence[TokenSequence], accelerator: Accelerator) -> Tensor:
        """Weighted mean of the losses of a step's tasks, each divided by its running scale, a scalar.

        Args:
            joined: Result of ``enter``.
            leaving: Output of the backbone for it.
            accelerator: Accelerator of this process; scales are those of all processes.
        """
        losses = torch.stack(
            [
                self.source(name).loss(sequence, targets).float()
                for (name, _, targets), sequence in zip(joined, leaving, strict=True)
            ]
        )
        places = [list(self.sources).index(name) for name, _, _ in joined]
        found = accelerator.reduce(losses.detach().abs(), reduction="mean")
        former = self.scales[places]
        kept = torch.where(former > 0, self.settings.momentum, 0.0)
        scales = kept * former + (1 - kept) * found
        self.scales[places] = scales
        mean: Tensor = (losses / scales.clamp(min=1e-6)).mean()
        return self.settings.weight * mean

    def forget(self, number: int, optimizer: torch.optim.Optimizer) -> None:
        """Restart the sources whose time it is at the step of a number, without their moments in the optimizer."""
        every = self.settings.forget_every
        for place, name in enumerate(self.sources):
            at = number + place * every // len(self.sources)
            if every and number and at % every == 0:
                source = self.source(name)
                source.restart(hash((self.seed, place, at // every)) & 0x7FFFFFFF)
                for parameter in source.own().values():
                    optimizer.state.pop(parameter, None)

    def facts(self) -> dict[str, Any]:
        """Facts that a resumed run must share."""
        facts: dict[str, Any] = {f"the mixture's {name}": value for name, value in vars(self.settings).items()}
        for name in self.sources:
            source = self.source(name)
            facts[f"the samples of {name}"] = data_fact(source.data)
            facts[f"the parts of {name}"] = [
                [part.name, {**all_options(part), **part.fitted}] for part in (source.tokenizer, source.head)
            ]
        return facts
