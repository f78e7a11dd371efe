"""The model card of a task: ``README.md`` with the front matter that the Hugging Face hub reads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["backbone_card", "cell", "front_matter", "model_card"]

PARTS = {  # by ``task.tune``
    "frozen": "tokenizer and head on the frozen backbone",
    "norm": "tokenizer, head and LayerNorm weights (`adapter/`, in peft's format) on the frozen backbone",
    "lora": "tokenizer, head and a LoRA adapter (`adapter/`, in peft's format) on the frozen backbone",
    "full": "tokenizer, head and a backbone of its own, which cannot be shared (`backbone/`), tuned in full from",
    "merged": "tokenizer, head and a backbone of its own, which cannot be shared (`backbone/`), an adapter merged into",
}


def model_card(config: dict[str, Any], name: str) -> str:
    """The card of a task, from its ``config.json``; ``name`` is where it is loaded from."""
    modality, head = config["tokenizer"]["name"], config["head"]["name"]
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


def front_matter(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub reads of a card, in the shape of its specification (``huggingface_hub.ModelCardData``)."""
    modality, head = config["tokenizer"]["name"], config["head"]["name"]
    about, measured = config["about"], config["metrics"].get("metatx", {})
    found = {name: value for name, value in measured.items() if value is not None and math.isfinite(value)}
    results: list[dict[str, Any]] = []
    if found and "data" in about:
        dataset = {"name": about["data"], "type": about.get("dataset", about["data"]), "split": "test"}
        metrics = [{"type": name, "name": name, "value": value} for name, value in found.items()]
        kind = f"{modality}-{head}".replace("_", "-")  # the hub's own name of the task, where it has one
        results = [{"task": {"type": kind}, "dataset": dataset, "metrics": metrics}]
    front = {
        "library_name": "metatx",
        "license": about.get("license"),
        "base_model": config["backbone"]["repository"],
        "datasets": [about["dataset"]] if "dataset" in about else None,
        "metrics": list(found),
        "tags": ["metatx", modality, head],
        "model-index": results and [{"name": f"{modality} {head}", "results": results}],
    }
    return {name: value for name, value in front.items() if value}


def backbone_card(spec: str, modalities: Sequence[str], made: Mapping[str, Any], result: Mapping[str, float]) -> str:
    """The card of a pretrained backbone.

    Args:
        spec: Its name.
        modalities: That it was aligned for.
        made: How: data and its terms, start, teacher, settings, time; a line each.
        result: What was measured on the validation split; what tells of the run alone is left out.
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
    """A metric as tables show it: four decimals where these say something; - where it is not defined."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def metric_table(results: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Rows of a Markdown table: one a model, one column a metric."""
    columns = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    rows = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, metrics in results.items():
        cells = [cell(metrics[name]) if name in metrics else "" for name in columns]
        rows.append(f"| {model} | " + " | ".join(cells) + " |")
    return rows
