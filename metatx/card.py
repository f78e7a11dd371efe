"""The model card of a task: ``README.md`` with the front matter that the Hugging Face hub reads."""

from typing import Any

__all__ = ["model_card"]

PARTS = {  # by ``task.tune``
    "frozen": "tokenizer and head on the frozen backbone",
    "norm": "tokenizer, head and LayerNorm weights (`adapter/`, in peft's format) on the frozen backbone",
    "lora": "tokenizer, head and a LoRA adapter (`adapter/`, in peft's format) on the frozen backbone",
    "full": "tokenizer, head and a backbone of its own, which cannot be shared (`backbone/`), tuned in full from",
    "merged": "tokenizer, head and a backbone of its own, which cannot be shared (`backbone/`), an adapter merged into",
}


def model_card(config: dict[str, Any]) -> str:
    """The card of a task, from its ``config.json``."""
    modality, head = config["tokenizer"]["name"], config["head"]["name"]
    backbone = config["backbone"]
    lines = [
        "---",
        "library_name: metatx",
        f"tags: [{modality}, {head}]",
        "---",
        f"# {modality} {head}",
        "",
        f"A metatx task: {PARTS[config['tune']]} `{backbone['spec']}` (fingerprint `{backbone['fingerprint'][:16]}`). "
        f"{config['trainable_parameters']:,} parameters take part in training.",
        "",
    ]
    if config["inputs"]:
        target = config["target"] or "what comes next"
        lines += [f"Reads {', '.join(config['inputs'])}; predicts {target}.", ""]
    if config["head"].get("note"):
        lines += [config["head"]["note"], ""]
    if config["metrics"]:
        lines += [*metric_table(config["metrics"]), ""]
    lines += [
        "```python",
        "import metatx",
        "",
        'task = metatx.Task.from_pretrained("FOLDER")',
        "task.predict(samples)",
        "```",
    ]
    return "\n".join(lines) + "\n"


def metric_table(results: dict[str, dict[str, float]]) -> list[str]:
    """Rows of a Markdown table: one a model, one column a metric."""
    columns = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    rows = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, metrics in results.items():
        cells = [f"{metrics[name]:.4f}" if name in metrics else "" for name in columns]
        rows.append(f"| {model} | " + " | ".join(cells) + " |")
    return rows
