"""Frozen encoders that tests align with: a plain function of captions, and a random BERT in a folder."""

import json
from pathlib import Path

import numpy as np
import torch

from metatx.pretraining.encoders import FrozenEncoder
from tests.pairs import COLOURS


def named_colours(texts: list[str]) -> np.ndarray:
    """The colour that a caption names, as red, green, blue and a constant, (B, 4)."""
    return np.array([[*COLOURS[text.split()[-1]], 99.0] for text in texts]) / 100


def colour_encoder(fingerprint: str = "colours 1", function=named_colours) -> FrozenEncoder:
    return FrozenEncoder(function=function, dim=4, fingerprint=fingerprint, name="colours")


def bert_folder(folder: Path, sentence: bool = True, **modes: bool) -> Path:
    """Seeded random BERT of width 64 with a vocabulary of twelve words, as sentence-transformers writes it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "a", "photo", "of", "something", *COLOURS]
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **shape)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    if sentence:
        kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        ways = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, **modes}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(ways))
    return folder
