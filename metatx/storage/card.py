"""Model card of a task: ``README.md`` with the front matter that the Hugging Face hub reads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from metatx.registry import COMPOSITE

__all__ = ["backbone_card", "cell", "front_matter", "inputs_of", "modalities", "model_card", "way_of"]

PARTS = {  # parts of a task, by its ``tune``
    "frozen": "tokenizer and head on the frozen backbone",
    "scale": "tokenizer, head and gains of the blocks (`adapter/`, in peft's format) on the frozen backbone",
    "norm": "tokenizer, head and LayerNorm weights (`adapter/`, in peft's format) on the frozen backbone",
    "lora": "tokenizer, head and a LoRA adapter (`adapter/`, in peft's format) on the frozen backbone",
    "full": "tokenizer, head and a backbone of its own, which cannot be shared (`backbone/`), tuned in full from",
    "merged": "tokenizer, head and a backbone of its own, which cannot be shared (`backbone/`), an adapter merged into",
}


def model_card(config: dict[str, Any], name: str) -> str:
    """Write the card of a task from its ``config.json``; ``name`` is the folder or hub name that it is loaded from."""
    modality = " + ".join(modalities(config))
    head = config["head"]["name"]
    backbone = config["backbone"]
    spec = f"`{backbone['spec']}`" + ("" if backbone["pretrained"] else " with random weights")
    lines = [
        "---",
        yaml.safe_dump(front_matter(config), sort_keys=False, allow_unicode=True) + "---",
        f"# {modality} {head}",
        "",
        f"A metatx task: {PARTS[config['tune']]} {spec} (fingerprint `{backbone['fingerprint'][:16]}`). "
        f"{config['trainable_parameters']:,} parameters take part in training.",
        "",
    ]
    if config["inputs"]:
        target = config["target"] or "what comes next"
        lines += [f"Reads {', '.join(config['inputs'])}; predicts {target}.", ""]
    inputs = inputs_of(config)
    if inputs:
        lines += ["| input | modality | columns |", "|---|---|---|"]
        lines += [f"| {each['name']} | {each['modality']} | {', '.join(each['columns'])} |" for each in inputs]
        ways = [f"{each['name']} is read {way}" for each in inputs if (way := way_of(each))]
        lines += ["", f"First {'; '.join(ways)}."] if ways else []
        options = ", ".join(f"{name} {value}" for name, value in config["fusion"]["options"].items())
        lines += ["", f"Fusion: {config['fusion']['name']} ({options}). Inputs may be missing, not all of them.", ""]
    if config["head"].get("note"):
        lines += [config["head"]["note"], ""]
    about = config["about"]
    if "data" in about:
        lines += [f"Measured on {about['data']}, {about.get('split', 'test split')}.", ""]
    if config["metrics"]:
        lines += [*metric_table(config["metrics"]), ""]
    lines += [
        "```python",
        "import metatx",
        "",
        f'task = metatx.Task.from_pretrained("{name}")',
        "task.predict(samples)",
        "```",
    ]
    return "\n".join(lines) + "\n"


def inputs_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Inputs of a task that has several, each with its ``name``, ``modality``, ``columns``; else none."""
    if config["tokenizer"]["name"] != COMPOSITE:
        return []
    inputs = config["tokenizer"]["options"]["inputs"]
    return [{**each, "columns": [each["name"]] if each["columns"] is None else each["columns"]} for each in inputs]


def way_of(input: Mapping[str, Any]) -> str:
    """Words for the other backbone that reads an input first, and the bridge behind it; empty for none."""
    way = input.get("through")
    if way is None:
        return ""
    control = "" if way.get("pretrained", True) else " with random weights"
    fingerprint = str(way.get("fingerprint"))[:16]
    return f"by backbone {way['backbone']}{control} (fingerprint {fingerprint}), over the bridge {way['bridge']}"


def modalities(config: Mapping[str, Any]) -> list[str]:
    """Modalities that a task reads, each once."""
    return list(dict.fromkeys(each["modality"] for each in inputs_of(config))) or [config["tokenizer"]["name"]]


def front_matter(config: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata that the hub reads, in the form of its specification (``huggingface_hub.ModelCardData``)."""
    read = modalities(config)
    head = config["head"]["name"]
    about = config["about"]
    measured = config["metrics"].get("metatx", {})
    finite = {name: value for name, value in measured.items() if value is not None and math.isfinite(value)}
    results: list[dict[str, Any]] = []
    if finite and "data" in about:
        dataset = {"name": about["data"], "type": about.get("dataset", about["data"]), "split": "test"}
        metrics = [{"type": name, "name": name, "value": value} for name, value in finite.items()]
        kind = "-".join([*read, head]).replace("_", "-")  # the hub's own name of the task, where it has one
        results = [{"task": {"type": kind}, "dataset": dataset, "metrics": metrics}]
    front = {
        "library_name": "metatx",
        "license": about.get("license"),
        "base_model": config["backbone"]["repository"],
        "datasets": [about["dataset"]] if "dataset" in about else None,
        "metrics": list(finite),
        "tags": ["metatx", *read, head],
        "model-index": results and [{"name": " ".join([*read, head]), "results": results}],
    }
    return {name: value for name, value in front.items() if value}


def backbone_card(spec: str, modalities: Sequence[str], made: Mapping[str, Any], result: Mapping[str, float]) -> str:
    """Write the card of a pretrained backbone.

    Args:
        spec: Name of the backbone.
        modalities: Modalities that it was aligned for.
        made: Facts of the pretraining, a line each: data and their terms, start, teacher, settings, time.
        result: Values measured on the validation split; epoch, seconds, lr and scale are left out.
    """
    shown = {name: value for name, value in result.items() if name not in ("epoch", "seconds", "lr", "scale")}
    lines = ["---", "library_name: metatx", f"tags: [backbone, {', '.join(modalities)}]", "---", f"# {spec}", ""]
    lines += [f"A backbone of metatx, pretrained contrastively on pairs: {' and '.join(modalities)}.", ""]
    lines += [f"- **{name}**: {value}" for name, value in made.items()]
    lines += ["", "On the validation split, at the end:", "", *metric_table({spec: shown}), ""]
    lines += ["```python", "import metatx", "", 'backbone = metatx.load_backbone("FOLDER")  # frozen, for tasks']
    lines += [
        'aligned = metatx.Alignment.from_pretrained("FOLDER", backbone)  # vectors to compare by cosine',
        "```",
        "",
    ]
    return "\n".join(lines)


def cell(value: float | None) -> str:
    """Format a metric for a table: four decimals, four digits where it is very small or large, - where undefined."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def metric_table(results: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Rows of a Markdown table with a row for each model and a column for each metric."""
    columns = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    rows = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, metrics in results.items():
        cells = [cell(metrics[name]) if name in metrics else "" for name in columns]
        rows.append(f"| {model} | " + " | ".join(cells) + " |")
    return rows
