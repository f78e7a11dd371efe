"""Language models of transformers by name or folder: their config and their weights."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metatx.backbone.config import OUTPUT
from metatx.backbone.language import FAMILIES, LanguageConfig
from metatx.backbone.vocabulary import Vocabulary

__all__ = ["download_language_model", "from_transformers", "language_config", "language_repository"]

# Parts of transformers' checkpoints that no token depends on: heads, and buffers that older files hold.
OUTER = ("bert.", "roberta.", "model.")  # names of the inner model in those with a head
UNUSED = ("pooler.", "cls.", "classifier.", "qa_outputs.", "score.")
BUFFERS = ("position_ids", "token_type_ids", "inv_freq")
OUR_NAMES = {
    "embeddings.word_embeddings.weight": "vocabulary.embedding.weight",
    "embed_tokens.weight": "vocabulary.embedding.weight",
    "embeddings.token_type_embeddings.weight": "vocabulary.types",
}


def language_config(name: str) -> LanguageConfig:
    """Config of the model called ``name``, or in the folder of that name.

    Raises:
        OSError: If it cannot be read; says why.
        ValueError: If it is of an architecture that cannot be used, or has no fast tokenizer.
    """
    try:
        values = json.loads(_file(name, "config.json").read_text())
    except ValueError as error:
        raise ValueError(f"The config.json of {name} is damaged, it is no JSON: {error}.") from None
    try:
        kind = str(values["model_type"])
    except (KeyError, TypeError):
        raise ValueError(f"{name} is no language model: its config.json names no model_type of transformers.") from None
    if kind not in FAMILIES:
        raise ValueError(
            f"{name} is of the architecture {kind!r}; metatx reads text encoders and causal models of the "
            f"architectures {', '.join(FAMILIES)}."
        )
    settings = _settings(name, kind, values)
    reason = _strange(settings)
    if reason:
        raise ValueError(f"{name} {reason}, which metatx does not compute; choose another model.")
    config = LanguageConfig(
        model_type=kind,
        dim=settings.hidden_size,
        depth=settings.num_hidden_layers,
        vocabulary=settings.vocab_size,
        settings={option: getattr(settings, option) for option in FAMILIES[kind].settings if hasattr(settings, option)},
        tokenizer=_file(name, "tokenizer.json").read_text(encoding="utf-8"),
        tied=FAMILIES[kind].causal and bool(settings.tie_word_embeddings),
        output=FAMILIES[kind].causal and not settings.tie_word_embeddings and _predicts(settings),
        end=_end(settings) if FAMILIES[kind].causal else None,
    )
    with torch.device("meta"):
        try:
            Vocabulary(config.vocabulary, config.dim, 0, config.context, config.tokenizer, config.end)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return config


def download_language_model(name: str, config: LanguageConfig) -> Mapping[str, Tensor]:
    """Weights of the model by transformers' names, as float32.

    Raises:
        OSError: If they cannot be read.
        ValueError: If weights are missing or of another shape than the config says.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoModelForCausalLM

    kind: Any = AutoModelForCausalLM if config.output else AutoModel
    with _quiet():
        try:
            model, loaded = kind.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, local_files_only=os.path.isdir(name)
            )
        except RuntimeError as error:  # shapes differ
            raise ValueError(f"The weights of {name} do not fit its config.json: {_line(error)}.") from None
        except SafetensorError as error:
            raise ValueError(f"The weights of {name} are damaged: {_line(error)}.") from None
        except OSError as error:
            raise OSError(_line(error)) from None
    missing = [weight for weight in loaded["missing_keys"] if not weight.startswith(UNUSED)]
    if missing:
        raise ValueError(f"{name} is damaged: {len(missing)} weights are missing, such as {min(missing)}.")
    weights: dict[str, Tensor] = model.state_dict()
    return weights


def from_transformers(tensors: Mapping[str, Tensor], config: LanguageConfig) -> dict[str, Tensor]:
    """Convert the weights of a language model of transformers, with or without a head, to the backbone's names."""
    ours = {}
    for name, value in tensors.items():
        for outer in OUTER:
            name = name.removeprefix(outer)
        unused = name.startswith(UNUSED) or (name.startswith(OUTPUT) and not config.output)
        if not unused and not name.endswith(BUFFERS):
            ours[OUR_NAMES.get(name, name)] = value
    table = ours.get("vocabulary.embedding.weight")
    if table is not None:
        with torch.device("meta"):
            words = Vocabulary(config.vocabulary, config.dim, 0, config.context, config.tokenizer)
        ours["cls_token"] = table[list(words.prefix)]
    return ours


def language_repository(name: str) -> str | None:
    """Repository of a model on the Hugging Face hub; None for a folder."""
    return None if os.path.isdir(name) else name


def _file(name: str, file: str) -> Path:
    """Path of a model's file, in its folder or fetched from the hub. Raises OSError if it is not there."""
    from transformers.utils.hub import cached_file

    if os.path.isdir(name):
        path = Path(name) / file
        if not path.is_file():
            what = "no language model of transformers" if file == "config.json" else "incomplete"
            raise OSError(f"{name} is {what}: it has no {file}.")
        return path
    try:
        return Path(str(cached_file(name, file)))
    except (OSError, ValueError) as error:
        raise OSError(
            f"{name} is no folder, and {file} cannot be had from the Hugging Face hub: {_line(error)}"
        ) from None


def _settings(name: str, kind: str, values: Mapping[str, Any]) -> Any:
    """Config of a model as transformers reads it, with defaults. Raises ValueError if it is damaged."""
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(kind, **{key: value for key, value in values.items() if key != "model_type"})
    except Exception as error:  # transformers' own classes of validation errors, and others
        raise ValueError(f"The config.json of {name} is damaged: {_line(error)}.") from None


def _strange(settings: Any) -> str:
    """Property of a model that the backbone does not compute; empty if there is none."""
    rope = getattr(settings, "rope_parameters", None) or {}
    context = settings.max_position_embeddings
    window = getattr(settings, "sliding_window", None)
    if getattr(settings, "is_decoder", False) or getattr(settings, "add_cross_attention", False):
        return "is a decoder of the encoder's kind"
    if window is not None and window < context and getattr(settings, "use_sliding_window", True):
        return f"attends within a window of {window} tokens"
    if rope.get("rope_type", "default") in ("dynamic", "longrope"):
        return f"has positions of the kind {rope['rope_type']}, which depend on the longest sequence of a batch"
    if getattr(settings, "position_embedding_type", "absolute") != "absolute":
        return "has relative positions"
    return ""


def _predicts(settings: Any) -> bool:
    """True if the model was saved with its output layer."""
    return any(name.endswith("ForCausalLM") for name in settings.architectures or ())


def _end(settings: Any) -> int | None:
    """Number of the first end token that a config names; None for none."""
    ends = settings.eos_token_id
    return ends[0] if isinstance(ends, list) and ends else (ends if isinstance(ends, int) else None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' bars and reports about unused weights."""
    from transformers.utils import logging

    library: Any = logging
    level = library.get_verbosity()
    bars = library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
