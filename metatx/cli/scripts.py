"""Command lines of scripts: of a recipe, with its own values as defaults, and of any typed function."""

import argparse
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, auto_cli

from metatx.backbone.loading import load_backbone
from metatx.cli.lists import names_of
from metatx.cli.parser import Parser, flags_of, lists_of, normalise_argv
from metatx.cli.training import options_by_input
from metatx.evaluation.recipe import Recipe
from metatx.process import keep_memory
from metatx.registry import lookup
from metatx.settings import TrainingSettings
from metatx.training.distributed import training_device

__all__ = ["command", "recipe_command"]

NUMBERS = re.compile(r"-?\d+(,-?\d+)+")  # 0,1,2 for a list
LONGEST_DEFAULT = 60  # characters that the help shows of one


def command(main: Callable[..., Any]) -> None:
    """Run a script: options from the signature of ``main``, errors of the user's as one line and exit code 2."""
    with _errors_as_a_line():
        auto_cli(main, parser_class=ScriptParser)


def recipe_command(recipe: Recipe | Callable[..., Recipe]) -> None:
    """Run a recipe with what the command line changes of it: ``--epochs 3 --head.norm batch --tokenizer.hide 0.2``.

    Args:
        recipe: A recipe; or a function that makes one, all of whose arguments have a default and become options too.
    """
    keep_memory()
    with _errors_as_a_line():
        _run_recipe((lambda: recipe) if isinstance(recipe, Recipe) else recipe, sys.argv[1:])


def _run_recipe(make: Callable[..., Recipe], words: Sequence[str]) -> None:
    given = recipe_parser(make).parse_args(words, defaults=False).as_dict()
    recipe = make(**_taken(given, make))
    options = _taken(given, run_options)
    reading = {} if isinstance(recipe.read, partial) else _taken(given, recipe.read)
    recipe = recipe.read_with(**reading) if reading else recipe
    changes = {f"{part}_options": given.pop(part, {}) for part in ("tokenizer", "head", "adapter")}
    if recipe.spec.several:
        changes["tokenizer_options"] = options_by_input(changes["tokenizer_options"])
    run_options(recipe.changed(**changes, **given), **options)


def run_options(
    recipe: Recipe,
    *,
    data: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    device: str = "auto",
    pretrained: bool = True,
    seeds: tuple[int, ...] | None = None,
    split_column: str | None = None,
    validation_share: float | None = None,
    budget: float | None = None,
    baseline: bool = True,
    fusions: str | None = None,
    out: str | None = None,
) -> None:
    """Load the backbone and run the recipe.

    Args:
        recipe: Recipe to run.
        data: Folder of the data; by default looked up below the folder that METATX_DATA names.
        backbone: Name of the backbone; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
        pretrained: Use the backbone's weights; false: random ones, always the same, as the control.
        seeds: Seeds, one run each: --seeds 0,1,2.
        split_column: Column that says train, validation or test, where the table has another way to split it.
        validation_share: Share of the training split that is held out where there is no validation split.
        budget: Seconds of training of a run. Epochs, at most --epochs, and samples are chosen to fit.
        baseline: Fit the trivial and the classical baselines.
        fusions: Fusions to compare, separated by commas, beside each input alone and each left out:
            late,mid:at=4; all for every one.
        out: Folder for the tasks, one a seed, or for the comparison of fusions; without it none is kept.
    """
    place = training_device(device)
    loaded = load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained, device=place)
    if split_column not in (None, recipe.split_column):  # what others published is of the recipe's own split
        recipe = replace(recipe, name=f"{recipe.name}, {split_column}", split_column=split_column, published={})
    if validation_share is not None:
        recipe = replace(recipe, validation_share=validation_share)
    options: dict[str, Any] = {"data": data, "seeds": seeds, "budget": budget, "baseline": baseline, "out": out}
    if fusions is None:
        recipe.run(loaded, **options)
    else:
        print(recipe.compare(loaded, names_of("--fusions", fusions), **options))


class ScriptParser(Parser):
    """Parser of a script's words: options as those of ``metatx``, and lists of whole numbers without brackets."""

    def parse_args(self, args: Any = None, *given: Any, **options: Any) -> Any:
        """Parse words, by default those of the command line."""
        words = [re.sub(r"^--fusion\.", "--fusion-options.", word) for word in (sys.argv[1:] if args is None else args)]
        words = normalise_argv(words, flags_of(self), lists_of(self))
        return super().parse_args(_listed(words), *given, **options)


def recipe_parser(make: Callable[..., Recipe]) -> ScriptParser:
    """Return the parser of a recipe's options; the defaults that its help shows are those of the recipe."""
    recipe = make()
    about = sys.modules["__main__"].__doc__ or recipe.name
    parser = ScriptParser(prog=Path(sys.argv[0]).name, description=about.partition("\n")[0])
    named = {*inspect.signature(make).parameters, *inspect.signature(recipe.read).parameters}
    group = parser.add_argument_group("data, backbone and output")
    group.add_function_arguments(make, as_group=False)
    if not isinstance(recipe.read, partial):  # of which ``make`` has given what there is to choose
        group.add_function_arguments(recipe.read, as_group=False, skip=_positional(recipe.read))
    group.add_function_arguments(run_options, as_group=False, skip={"recipe"})
    group = parser.add_argument_group("training")
    group.add_class_arguments(TrainingSettings, as_group=False, skip={"seed"})
    group.add_argument("--tune", help="Part of the backbone that is trained too: frozen, scale, norm, lora or full.")
    group.add_argument("--adapter", type=dict[str, Any], help="Options of tune lora or scale: --adapter.r 8 and so on.")
    defaults = {**vars(recipe.settings), "seeds": recipe.seeds, "tune": recipe.spec.tune}
    defaults |= {"split_column": recipe.split_column, "validation_share": recipe.validation_share}
    hidden = {"dim", "stem", *named}
    if recipe.grid is not None:
        group.add_argument("--grid", type=tuple[int, int] | int, help="Rows and columns of patches: --grid 14,8.")
        defaults["grid"] = recipe.grid
        hidden.add("image_size")
    parts: dict[str, tuple[str, Any]] = {}
    if isinstance(recipe.spec.modality, str):
        parts["tokenizer"] = recipe.spec.modality, recipe.spec.tokenizer_options
    else:
        _add_inputs(parser.add_argument_group("several inputs"), recipe)
        defaults["fusion"] = recipe.spec.fusion
    if recipe.spec.head is not None:
        parts["head"] = (recipe.spec.head, recipe.spec.head_options)
    for part, (name, options) in parts.items():
        kind = lookup("tokenizers" if part == "tokenizer" else "heads", name)
        skipped = hidden & set(inspect.signature(kind.__init__).parameters)
        parser.add_argument_group(f"{name} {part}").add_class_arguments(kind, part, as_group=False, skip=skipped)
        defaults |= {f"{part}.{option}": value for option, value in options.items() if option not in hidden}
    del defaults["seed"]
    parser.set_defaults({name: value for name, value in defaults.items() if len(str(value)) <= LONGEST_DEFAULT})
    return parser


def _add_inputs(group: Any, recipe: Recipe) -> None:
    """Add the options of a recipe with several inputs."""
    options = f"Options by input: --tokenizer.INPUT.OPTION; inputs: {', '.join(i.name for i in recipe.spec.several)}."
    group.add_argument("--fusion", type=str, help='How inputs meet, see "metatx list fusions"; options as --fusion.at.')
    group.add_argument("--fusion_options", type=dict[str, Any], help=argparse.SUPPRESS)
    group.add_argument("--main", type=str, help="Input whose tokens a head reads that labels places or steps.")
    group.add_argument("--tokenizer", type=dict[str, Any], help=options)


def _positional(function: Callable[..., Any]) -> set[str | int]:
    """Names of the arguments of a function that need not be named."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name for each in parameters if each.kind is not each.KEYWORD_ONLY}


def _taken(given: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Arguments of a function, taken out of ``given``."""
    return {name: given.pop(name) for name in inspect.signature(function).parameters if name in given}


def _listed(words: Sequence[str]) -> list[str]:
    """Words with brackets around whole numbers that are a list: ``0,1,2``, and a single one of ``--seeds``."""
    listed = []
    for previous, word in itertools.pairwise(["", *words]):
        name, equals, value = word.rpartition("=")
        several = NUMBERS.fullmatch(value) or ((name or previous) == "--seeds" and value.isdecimal())
        listed.append(f"{name}{equals}[{value}]" if several else word)
    return listed


@contextmanager
def _errors_as_a_line() -> Iterator[None]:
    try:
        yield
    except (ArgumentError, ValueError, OSError, ImportError) as error:
        print(f"{Path(sys.argv[0]).name}:", *str(error).split(), file=sys.stderr)
        sys.exit(2)
