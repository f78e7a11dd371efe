"""Space that a search for settings tries: names of values, with those that each may have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from metatx.adapters.tiers import TIERS
from metatx.registry import lookup, option_defaults, unknown
from metatx.settings import TrainingSettings
from metatx.spec import TaskSpec
from metatx.task import Task

if TYPE_CHECKING:
    import optuna

__all__ = ["Options", "Space", "applied"]

RATES = 30.0  # the learning rate is searched from the default divided by this to the default times this
DECAYS = (0.001, 0.01, 0.1, 0.3)

Options = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """Names of the values that are searched, each with those that it may have.

    Names are those of the command line: ``lr``, ``weight_decay``, ``tune``, ``head.OPTION``, ``tokenizer.OPTION``, and
    of several inputs ``tokenizer.INPUT.OPTION``.

    Attributes:
        default: Value of each name without a search.
        choices: Values of each name but the learning rate, whose range follows from its default.
    """

    default: Options
    choices: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, task: Task, spec: TaskSpec, settings: TrainingSettings, tiers: Sequence[str]) -> "Space":
        """Space of a task: what its head and tokenizers declare as ``tunable``, but for options that the spec gives.

        Args:
            task: Task with the settings that are the default.
            spec: Choices that make the task.
            settings: Settings of the training.
            tiers: Tiers of tuning to try.

        Raises:
            ValueError: If a tier is unknown.
        """
        for tier in tiers:
            if tier not in TIERS:
                raise ValueError(unknown("tier", tier, list(TIERS)))
        parts: dict[str, tuple[Any, Mapping[str, Any]]] = {"head": (type(task.head), spec.head_options)}
        if spec.several:
            owners = [each for each in spec.several if each.shares is None]
            parts |= {f"tokenizer.{each.name}": (lookup("tokenizers", each.modality), each.options) for each in owners}
        else:
            parts["tokenizer"] = (type(task.tokenizer), spec.tokenizer_options)
        default: Options = {"weight_decay": settings.weight_decay}
        choices: dict[str, Sequence[Any]] = {"weight_decay": DECAYS}
        if len({spec.tune, *tiers}) > 1:
            default["tune"] = spec.tune
            choices["tune"] = tuple(tiers)
        for part, (component, given) in parts.items():
            defaults = option_defaults(component)
            for option, values in component.tunable.items():
                if option not in given:
                    default[f"{part}.{option}"] = defaults[option]
                    choices[f"{part}.{option}"] = values
        # The default comes first, so that it can be tried as the first trial.
        whole = {name: tuple(dict.fromkeys([default[name], *values])) for name, values in choices.items()}
        return cls({"lr": settings.lr, **default}, whole)

    def suggested(self, trial: "optuna.Trial") -> Options:
        """Values that a trial tries."""
        rate = self.default["lr"]
        values: Options = {"lr": trial.suggest_float("lr", rate / RATES, rate * RATES, log=True)}
        return values | {name: trial.suggest_categorical(name, choices) for name, choices in self.choices.items()}


def applied(values: Mapping[str, Any], spec: TaskSpec, settings: TrainingSettings) -> tuple[TaskSpec, TrainingSettings]:
    """Spec and settings with the values of a trial."""
    head = dict(spec.head_options)
    tokenizer = {name: dict(part) if spec.several else part for name, part in spec.tokenizer_options.items()}
    for name, value in values.items():
        part, _, option = name.partition(".")
        if part == "head":
            head[option] = value
        elif part == "tokenizer" and spec.several:
            input, _, option = option.partition(".")
            tokenizer[input] = {**tokenizer.get(input, {}), option: value}
        elif part == "tokenizer":
            tokenizer[option] = value
    changed = replace(spec, head_options=head, tokenizer_options=tokenizer, tune=values.get("tune", spec.tune))
    return changed, replace(settings, lr=values["lr"], weight_decay=values["weight_decay"])
