"""``metatx train`` and ``metatx compare``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.cli.lists import names_of
from metatx.inputs.notation import AUTO, one_input_error, parsed
from metatx.reading.csv_tables import Reading
from metatx.registry import Kind, names, unknown
from metatx.settings import TrainingSettings
from metatx.spec import TaskSpec

if TYPE_CHECKING:
    from metatx.backbone.base import Backbone

__all__ = ["asked_of", "compare_", "free_folder", "options_by_input", "train"]


@dataclass(frozen=True)
class Asked:
    """Task and training that options ask for.

    Attributes:
        spec: Choices that make the task.
        settings: Settings of the training.
        data: Arguments of ``run`` that say how the data are read.
        backbone: Name of the backbone.
        loading: Arguments of ``load_backbone``.
    """

    spec: TaskSpec
    settings: TrainingSettings
    data: dict[str, Any]
    backbone: str
    loading: dict[str, Any]

    def loaded(self) -> "Backbone":
        """Load the backbone, after what is cheaper to check. Raises ValueError if it cannot train the task."""
        from metatx.backbone.loading import load_backbone
        from metatx.encoding.trainable import check_trains
        from metatx.training.distributed import training_device
        from metatx.training.history import tracker_classes

        place = training_device(self.loading["device"])
        tracker_classes(self.settings)
        if self.backbone.startswith("transformers:"):  # else the head is refused, by what it needs
            check_trains(self.spec)
        return load_backbone(self.backbone, **{**self.loading, "device": place})


def asked_of(
    *,
    modality: str | None = None,
    target: str | None = None,
    inputs: str | None = None,
    input: list[str] | None = None,
    split_column: str | None = None,
    csv: dict[str, Any] | None = None,
    head: str | None = None,
    tokenizer: dict[str, Any] | None = None,
    through: dict[str, Any] | None = None,
    fusion: str | None = None,
    main: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    device: str = "auto",
    pretrained: bool = True,
    tune: str = "frozen",
    adapter: dict[str, Any] | None = None,
    skip_bad_samples: bool = False,
    head_options: dict[str, Any] | None = None,
    fusion_options: dict[str, Any] | None = None,
    **settings: Any,
) -> Asked:
    """Task and training that the options of "metatx train" and "metatx tune" ask for.

    Args:
        modality: Kind of data, such as image; see "metatx list tokenizers". auto guesses the inputs of a table, and
            prints them as --input would say them.
        target: Column to predict; a usual name (label, target, class, y) is found by itself.
        inputs: Columns to read, separated by commas.
        input: Input of a task with several, as NAME=MODALITY[:COLUMN,...]; once for each. Without columns the name is
            that of the column. --input front,back=image: two inputs, one tokenizer.
        split_column: Column that says train, validation or test.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        head: Kind of answer; inferred from the target. See "metatx list heads". Options by name: --head.dropout 0.1.
        tokenizer: Options of the tokenizer, each by its name: --tokenizer.patch-size 16; of several inputs by their
            names too: --tokenizer.photo.patch-size 16.
        through: Another frozen backbone that reads an input first, by the input's name: --through.photo.backbone nano,
            and the bridge behind it, linear by default: --through.photo.bridge, see "metatx list bridges"; checkpoint,
            pretrained, and options of the bridge likewise.
        fusion: How several inputs meet; late by default, see "metatx list fusions". Options by name: --fusion.dropout
            0.3; with --fusion NAME, --help shows them.
        main: Input whose tokens a head reads that labels places or steps; the first by default.
        validation: Data of the validation split, where DATA has none.
        test: Data of the test split, where DATA has none.
        backbone: Name of the backbone; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
        pretrained: Use the backbone's weights; false: random ones, always the same, as the control.
        tune: Part of the backbone that is trained too: frozen (none), scale (a gain of each block's attention and
            MLP), norm (copies of its LayerNorms), lora (low-rank updates), full (a copy of all weights, which no other
            task can share).
        adapter: Options of tune lora: --adapter.r 8, alpha, dropout, target-modules, use-dora, use-rslora; of tune
            scale: per-channel.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command.
        head_options: Options of the head, each by its name: --head.dropout 0.1.
        fusion_options: Options of the fusion, each by its name: --fusion.dropout 0.3.
        settings: Settings of the training, by name.
    """
    spec = TaskSpec(
        **_inputs(modality, inputs, input, tokenizer or {}, through or {}),
        **_fusion(modality, input, fusion, fusion_options, main),
        target=target,
        head=head,
        head_options=head_options or {},
        tune=tune,
        adapter_options=adapter or {},
    )
    _check_names(spec)
    chosen = TrainingSettings(**settings)
    of_data = {"split_column": split_column, "validation": validation, "test": test, "reading": Reading.of(csv)}
    of_backbone = {"checkpoint": checkpoint, "pretrained": pretrained, "device": device}
    return Asked(spec, chosen, {**of_data, "skip_bad_samples": skip_bad_samples}, backbone, of_backbone)


def train(
    data: str,
    *,
    start: str | None = None,
    out: str | None = None,
    resume: bool = False,
    baseline: bool = True,
    budget: float | None = None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Fit a task, evaluate it beside two baselines, save it.

    Args:
        data: A table (csv, parquet, json, jsonl), a folder of splits or of classes, or hf:NAME.
        start: Folder of a trained, frozen task; training starts from its tokenizer and head.
        out: Folder for the task and its numbers; runs/NAME of the data by default.
        resume: Go on from the checkpoint in --out.
        baseline: Fit the trivial and the classical baselines.
        budget: Seconds of training. Epochs, at most --epochs, and samples are chosen to fit.
        config: Options to be written beside the task.
        options: Options of the task and its training.
    """
    asked = asked_of(**options)
    if resume and out is None:
        raise ValueError("--resume goes on with a run in a folder; name it with --out.")
    folder = out or free_folder(data)
    # Imported here: torch takes seconds, and a mistake in the arguments has been told before.
    from metatx.evaluation.run import run
    from metatx.training.distributed import processes

    report = run(
        data,
        asked.spec,
        backbone=asked.loaded(),
        settings=asked.settings,
        start=start,
        out=folder,
        resume=resume,
        baseline=baseline,
        budget=budget,
        config=config,
        **asked.data,
    )
    if processes().is_main_process:
        print(f"{report}\nsaved in {folder}")


def compare_(
    data: str,
    *,
    modality: str | None = None,
    target: str | None = None,
    inputs: str | None = None,
    input: list[str] | None = None,
    split_column: str | None = None,
    csv: dict[str, Any] | None = None,
    head: str | None = None,
    tokenizer: dict[str, Any] | None = None,
    through: dict[str, Any] | None = None,
    fusion: str | None = None,
    main: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    device: str = "auto",
    seeds: str = "0,1,2",
    fusions: str | None = None,
    budget: float | None = None,
    out: str | None = None,
    baseline: bool = True,
    skip_bad_samples: bool = False,
    head_options: dict[str, Any] | None = None,
    fusion_options: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Show what the backbone brings: frozen, random, left out, its norms tuned, LoRA, gains; and two baselines.

    Args:
        data: Data as in "metatx train".
        modality: Kind of data, such as image; see "metatx list tokenizers". auto guesses the inputs of a table, and
            prints them as --input would say them.
        target: Column to predict; a usual name (label, target, class, y) is found by itself.
        inputs: Columns to read, separated by commas.
        input: Input of a task with several, as NAME=MODALITY[:COLUMN,...]; once for each. Without columns the name is
            that of the column. --input front,back=image: two inputs, one tokenizer.
        split_column: Column that says train, validation or test.
        csv: Format of csv files, where the detected one is wrong: --csv.sep ';', decimal, encoding.
        head: Kind of answer; inferred from the target. See "metatx list heads". Options by name: --head.dropout 0.1.
        tokenizer: Options of the tokenizer, each by its name: --tokenizer.patch-size 16; of several inputs by their
            names too: --tokenizer.photo.patch-size 16.
        through: Another frozen backbone that reads an input first, by the input's name: --through.photo.backbone nano,
            and the bridge behind it, linear by default: --through.photo.bridge, see "metatx list bridges"; checkpoint,
            pretrained, and options of the bridge likewise.
        fusion: How several inputs meet; late by default, see "metatx list fusions". Options by name: --fusion.dropout
            0.3; with --fusion NAME, --help shows them.
        main: Input whose tokens a head reads that labels places or steps; the first by default.
        validation: Data of the validation split, where DATA has none.
        test: Data of the test split, where DATA has none.
        backbone: Name of the backbone; see "metatx list backbones".
        checkpoint: File with the backbone's weights.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
        seeds: One run each, of each variant, separated by commas.
        fusions: Fusions to compare of several inputs, separated by commas, each with its options: late,mid:at=4; all
            for every one. Each input alone and each left out stand beside them, and each fusion with a random backbone
            and without one.
        budget: Seconds of training of a run. Epochs, at most --epochs, and samples are chosen to fit, once for all.
        out: Folder for the table, the figure and the numbers; runs/NAME of the data by default. The same comparison
            goes on there.
        baseline: Fit the trivial and the classical baselines.
        skip_bad_samples: Leave out samples that cannot be used; by default they stop the command.
        head_options: Options of the head, each by its name: --head.dropout 0.1.
        fusion_options: Options of the fusion, each by its name: --fusion.dropout 0.3.
        settings: Settings of the training, by name.
    """
    spec = TaskSpec(
        **_inputs(modality, inputs, input, tokenizer or {}, through or {}),
        **_fusion(modality, input, fusion, fusion_options, main),
        target=target,
        head=head,
        head_options=head_options or {},
    )
    _check_names(spec)
    # Named here, and therefore no options: each run has its own seed, and writes no logs and no checkpoints.
    chosen = TrainingSettings(
        seed=0, track=None, tensorboard=False, checkpoint_seconds=30.0, checkpoint_steps=0, **settings
    )
    reading = Reading.of(csv)
    numbers = _seeds(seeds)
    folder = out or free_folder(data)
    from metatx.backbone.loading import load_backbone
    from metatx.evaluation.compare import compare
    from metatx.training.distributed import training_device

    place = training_device(device)
    comparison = compare(
        data,
        spec,
        backbone=load_backbone(backbone, checkpoint=checkpoint, device=place),
        seeds=numbers,
        fusions=names_of("--fusions", fusions),
        settings=chosen,
        budget=budget,
        split_column=split_column,
        reading=reading,
        validation=validation,
        test=test,
        baseline=baseline,
        skip_bad_samples=skip_bad_samples,
        out=folder,
    )
    print(comparison)
    print(f"saved in {folder}")


def _check_names(spec: TaskSpec) -> None:
    """Refuse names of tokenizers, heads and fusions that are not known, as ``lookup`` does, but without torch."""
    modalities = [spec.modality] if isinstance(spec.modality, str) else [each.modality for each in spec.several]
    chosen: list[tuple[Kind, str | None]] = [("tokenizers", name) for name in modalities if name != AUTO]
    chosen += [("heads", spec.head), ("fusions", spec.fusion)]
    for kind, name in chosen:
        if name is not None and name not in (choices := names(kind)):
            raise ValueError(unknown(kind[:-1], name, choices))


def _inputs(
    modality: str | None,
    columns: str | None,
    lines: list[str] | None,
    options: dict[str, Any],
    through: dict[str, Any],
) -> dict[str, Any]:
    """Attributes of a spec that say what is read: one modality, or several inputs.

    Raises:
        ValueError: If neither is said, or both are, or an option names no input.
    """
    nested = options_by_input(options) if lines or modality == AUTO else options
    if not lines:
        if through:
            raise ValueError("--through names an input; say the inputs, once for each: --input photo=image.")
        if modality is None:
            raise ValueError(
                "The kind of data is not said: --modality image, or --input NAME=MODALITY for each of several inputs; "
                '--modality auto guesses them. "metatx list tokenizers" shows the kinds.'
            )
        return {"modality": modality, "inputs": columns, "tokenizer_options": nested}
    if modality is not None or columns is not None:
        other = "--modality" if modality is not None else "--inputs"
        raise ValueError(f"--input says itself what is read, and of which kind; leave {other} out.")
    inputs = parsed(lines)
    called = {each.name.replace("-", "_"): each.name for each in inputs}  # as the parser writes names of options
    for name, value in nested.items():
        if not isinstance(value, dict):
            raise ValueError(
                f"--tokenizer.{name} names no input; write --tokenizer.{inputs[0].name}.{name}, or of which it is."
            )
    ways = {called.get(name, name): value for name, value in options_by_input(through).items()}
    for name in ways:
        if name not in called.values() and not isinstance(ways[name], dict):
            raise ValueError(
                f"--through.{name} names no input; write --through.{inputs[0].name}.{name}, or of which it is."
            )
        if name not in called.values():
            raise ValueError(unknown("input in --through", name, list(called.values())))
    return {
        "modality": [replace(each, through=ways[each.name]) if each.name in ways else each for each in inputs],
        "tokenizer_options": {called.get(name, name): value for name, value in nested.items()},
    }


def _fusion(
    modality: str | None, lines: list[str] | None, name: str | None, options: dict[str, Any] | None, main: str | None
) -> dict[str, Any]:
    """Attributes of a spec that say how inputs meet. Raises ValueError if there is one input."""
    options = options or {}
    given = [f"--fusion {name}"] if name is not None else []
    given += [f"--fusion.{option}" for option in options] + (["--main"] if main is not None else [])
    if given and modality != AUTO and len(parsed(lines or [])) < 2:
        raise one_input_error(given)
    return {"fusion": name or "late", "fusion_options": options, "main": main}


def options_by_input(options: dict[str, Any]) -> dict[str, Any]:
    """Options of tokenizers in which ``photo.patch_size`` is the option ``patch_size`` of ``photo``."""
    nested: dict[str, Any] = {}
    for name, value in options.items():
        input, dot, option = name.partition(".")
        if dot:
            nested[input] = {**nested.get(input, {}), option: value}
        elif isinstance(value, dict):
            # The parser leaves values of a second level as words.
            values = {option: _value(part) if isinstance(part, str) else part for option, part in value.items()}
            nested[name] = {**nested.get(name, {}), **values}
        else:
            nested[name] = value
    return nested


def _value(word: str) -> Any:
    """Value that a word of the command line says: a number, true, a list; or the word itself."""
    import yaml

    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:
        return word


def _seeds(numbers: str) -> list[int]:
    try:
        return [int(number) for number in numbers.split(",")]
    except ValueError:
        raise ValueError(f"--seeds is {numbers!r}; give whole numbers separated by commas, such as 0,1,2.") from None


def free_folder(data: str) -> str:
    """``runs/NAME``, numbered where that is taken."""
    stem = Path(data.removeprefix("hf:")).stem
    names = (f"runs/{stem}" if number == 1 else f"runs/{stem}-{number}" for number in range(1, 10_000))
    return next(name for name in names if not Path(name).exists())
