"""The text tokenizer on a language model: its vocabulary, its template, its table."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

import metatx
from metatx.testing import check_tokenizer
from tests.backbone.language_models import write_model
from tests.samples import TOKENIZERS

ROW = TOKENIZERS["text"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {kind: write_model(place / kind, kind) for kind in ("bert", "llama")}


@pytest.fixture(scope="module")
def vocabularies(folders):
    backbones = {kind: metatx.load_backbone(f"transformers:{folder}") for kind, folder in folders.items()}
    return {kind: backbone.stems["text"] for kind, backbone in backbones.items()}


def made(stem, samples=("a good film", "bad"), **options):
    return metatx.create("tokenizers", "text", 64, stem=stem, **options).learn(list(samples)).eval()


def tokens(tokenizer, sample):
    encoded = tokenizer.encode(sample)
    return tokenizer({name: value[None] for name, value in encoded.items()})


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("options", [{}, {"context": 32, "overlap": 4}, {"freeze_stem": False, "min_count": 2}])
def test_it_keeps_the_contract(vocabularies, kind, options) -> None:
    cls = metatx.registry.lookup("tokenizers", "text")
    given = {"bad_samples": ROW.bad_samples, "options": options, "stem": vocabularies[kind]}
    check_tokenizer(cls, ROW.samples, dim=64, **given)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_its_tokens_are_the_model_s(folders, vocabularies, kind) -> None:
    library = Tokenizer.from_file(str(folders[kind] / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    vocabulary = vocabularies[kind]
    expected = library.encode("A good film, film!").ids[len(vocabulary.prefix) :]
    found = tokens(made(vocabulary), "A good film, film!").embeddings
    torch.testing.assert_close(found, vocabulary.embedding.weight[expected], atol=0, rtol=0)


@torch.no_grad()
def test_a_pair_has_bert_s_separators_and_segments(folders, vocabularies) -> None:
    library = Tokenizer.from_file(str(folders["bert"] / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    encoded = library.encode("good?", "bad")
    vocabulary = vocabularies["bert"]
    types = vocabulary.types[torch.tensor(encoded.type_ids[1:])] - vocabulary.types[0]
    found = tokens(made(vocabulary), ("good?", "bad")).embeddings
    torch.testing.assert_close(found, vocabulary.embedding.weight[encoded.ids[1:]] + types)


def test_marks_that_someone_types_are_words(vocabularies) -> None:
    separator = vocabularies["bert"].suffix[0]
    assert separator not in made(vocabularies["bert"]).encode("a [SEP] b [CLS]")["tokens"]


@torch.no_grad()
def test_every_sequence_of_a_long_text_ends_as_the_template_does(vocabularies) -> None:
    vocabulary = vocabularies["bert"]
    found = tokens(made(vocabulary, context=16, overlap=4), "good film " * 20)
    assert max(found.lengths) == 16 and found.sequences_per_sample == (len(found.lengths),)
    ends = found.embeddings[torch.tensor(found.lengths).cumsum(0) - 1]
    torch.testing.assert_close(ends, vocabulary.embedding.weight[list(vocabulary.suffix)].expand_as(ends))


def test_rows_of_the_training_split_are_trained_from_the_model_s(vocabularies) -> None:
    vocabulary = vocabularies["bert"]
    tokenizer = made(vocabulary, freeze_stem=False)
    frozen = tokens(made(vocabulary), "good 7").embeddings
    found = tokens(tokenizer, "good 7").embeddings
    torch.testing.assert_close(found, frozen, atol=0, rtol=0)
    with torch.no_grad():
        tokenizer.embedding.add_(1)
    changed = (tokens(tokenizer, "good 7").embeddings - frozen).abs().amax(1) > 0.5
    assert changed.tolist() == [True, False, False]  # "7" and the separator are none of the training split's


def test_a_context_longer_than_the_model_s(vocabularies) -> None:
    with pytest.raises(ValueError, match="context is 600; the language model reads at most 511 tokens"):
        made(vocabularies["bert"], context=600)
    with pytest.raises(ValueError, match="overlap 15 leaves nothing new in a context of 16, 1 of them"):
        made(vocabularies["bert"], context=16, overlap=15)
