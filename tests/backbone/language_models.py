"""Small language models of random weights, in folders as transformers writes them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
ENCODERS = ("bert", "roberta")
CAUSAL = ("llama", "mistral", "qwen2", "qwen3")
HEADS = {"num_key_value_heads": 2, "head_dim": 16}
MORE: dict[str, dict[str, Any]] = {
    "llama": HEADS,
    "mistral": {**HEADS, "sliding_window": None},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": HEADS,
}


def word_pieces() -> Tokenizer:
    """Letters alone and within a word, lower-cased; the template of BERT."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = [*special, *CHARACTERS, *(f"##{letter}" for letter in CHARACTERS), "good", "film", "bad"]
    words = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    marks = [(name, words[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    tokenizer.enable_truncation(8)  # as the files of sentence-transformers have it; it must not count
    tokenizer.enable_padding(length=8)
    return tokenizer


def byte_pairs() -> Tokenizer:
    """Bytes, without a template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: number for number, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_model(folder: Path, kind: str, *, output: bool = False, **changes: Any) -> Path:
    """Write a model of width 64 and two blocks, each weight drawn at random, and its tokenizer.

    Args:
        folder: Folder to write.
        kind: transformers' ``model_type``.
        output: Write the output layer of a causal model too.
        changes: Arguments of transformers' config.
    """
    tokenizer = byte_pairs() if kind in CAUSAL else word_pieces()
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    vocabulary = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 512}
    config = AutoConfig.for_model(kind, **{**sizes, **vocabulary, **MORE.get(kind, {}), **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (AutoModelForCausalLM if output else AutoModel).from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
