"""Texts: CLIP's tokens, windows, pairs, unknown tokens, files, and what is no text."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import tokenize

from metatx import SampleError, Task, create, load_backbone
from metatx.cli import main
from metatx.data import byte_pairs
from metatx.encoding.collate import collate
from metatx.evaluation.baselines import baselines
from metatx.examples import Examples
from metatx.tokenizers import text as module

WORDS = "a thriller without thrills and a comedy without jokes , but not without charm".split()
make = partial(create, "tokenizers", "text", 16)


def fitted(samples, **options):
    torch.manual_seed(0)
    return make(**{"hide": 0.0, **options}).learn(samples).eval()


def tokens_of(tokenizer, *samples):
    return tokenizer(collate([tokenizer.encode(sample) for sample in samples]))


@pytest.mark.parametrize(
    "words", ["A dog's life!", "naïve café &amp; Ünï", "12,5 % off 🙂🙂", "日本語の文", "two\n  lines"]
)
def test_tokens_are_clip_s(words):
    expected = tokenize([words], context_length=77)[0]
    expected = expected[1 : expected.argmax()]  # without start and end
    assert make().encode(words)["tokens"].tolist() == expected.tolist()


def test_a_long_text_becomes_overlapping_sequences_each_as_if_it_stood_alone():
    words = (WORDS * 4)[:50]
    tokenizer = fitted([" ".join(words)], context=20, overlap=5)
    found = tokens_of(tokenizer, " ".join(words), "a comedy")
    assert found.sequences_per_sample == (3, 1) and found.lengths == (20, 20, 20, 2) and len(found) == 2
    for start, sequence in zip((0, 15, 30), found.embeddings.split(20), strict=False):
        alone = tokens_of(tokenizer, " ".join(words[start : start + 20]))
        torch.testing.assert_close(sequence, alone.embeddings)


@given(length=st.integers(1, 200), context=st.integers(1, 40), overlap=st.integers(0, 39))
@settings(max_examples=60, deadline=None)
def test_every_token_is_read_and_no_sequence_is_superfluous(length, context, overlap):
    overlap = min(overlap, context - 1)
    tokenizer = fitted(["charm"], context=context, overlap=overlap, max_tokens=200)
    tokenizer.embedding.data[:] = torch.arange(3.0)[:, None]
    batch = {"tokens": [torch.full((length,), int(tokenizer.known[0]))]}
    found = tokenizer(batch)
    assert max(found.lengths) <= context
    parts = len(found.lengths)
    assert sum(found.lengths) == length + (parts - 1) * overlap
    assert parts == 1 or found.lengths[-1] > overlap


@given(st.text(min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_gives_tokens_or_one_line(words):
    try:
        tokens = make().encode(words)["tokens"]
    except SampleError as error:
        assert "\n" not in str(error)
    else:
        assert len(tokens) and tokens.max() < module.CLIP_TOKENS


def test_the_texts_of_a_pair_differ_in_segment_and_the_order_matters():
    tokenizer = fitted(["charm not jokes"])
    one = tokens_of(tokenizer, ("charm", "not jokes"))
    assert one.lengths == (4,)
    assert tokenizer.encode({"a": "charm", "b": "not jokes"})["tokens"].tolist() == [
        *tokenizer.encode("charm")["tokens"],
        module.SEPARATOR,
        *tokenizer.encode("not jokes")["tokens"],
    ]
    single = tokens_of(tokenizer, "charm charm not jokes").embeddings
    torch.testing.assert_close(one.embeddings[0], single[0])
    shift = (tokenizer.segments[1] - tokenizer.segments[0]).expand(2, -1)
    torch.testing.assert_close(one.embeddings[2:] - single[2:], shift)
    batch = tokens_of(tokenizer, ("not", "charm"), ("charm", "not jokes")).embeddings
    torch.testing.assert_close(batch[3:], one.embeddings)


def test_a_token_is_the_sum_of_its_word_its_place_and_its_segment():
    tokenizer = fitted(["charm jokes"])
    (charm,) = tokenizer.encode("charm")["tokens"].tolist()
    word = tokenizer.embedding[2 + tokenizer.known.tolist().index(charm)]
    expected = word + tokenizer.positions.weight[:3] + tokenizer.segments[0]
    torch.testing.assert_close(tokens_of(tokenizer, "charm charm charm").embeddings, expected)


def test_hidden_words_are_read_as_unknown_at_their_place():
    tokenizer = fitted(["charm jokes film"], context=4, overlap=2)
    assert tokenizer.vocabulary == 3
    texts = ["charm jokes film charm jokes film", "zebra charm"]
    batch = {"tokens": [tokenizer.encode(text)["tokens"] for text in texts]}
    words = tokenizer.words_of(batch)
    assert [tokenizer.known[number].item() for number in words[0]] == batch["tokens"][0].tolist()
    assert words[1][0] < 0 <= words[1][-1], "a word that training did not show has no number"
    nothing = [torch.zeros(len(each), dtype=torch.bool) for each in words]
    plain, none = tokenizer.hide_words(batch, nothing)
    torch.testing.assert_close(plain.embeddings, tokenizer(batch).embeddings, rtol=0, atol=0)
    assert (none < 0).all()
    hidden = [mask.clone() for mask in nothing]
    hidden[0][2] = True  # in both windows of the text
    sequence, found = tokenizer.hide_words(batch, hidden)
    assert found[found >= 0].tolist() == [words[0][2]] * 2
    assert (sequence.embeddings != plain.embeddings).any(1).tolist() == (found >= 0).tolist()
    other = {"tokens": [batch["tokens"][0].clone(), batch["tokens"][1]]}
    other["tokens"][0][2] = batch["tokens"][0][0]
    torch.testing.assert_close(tokenizer.hide_words(other, hidden)[0].embeddings, sequence.embeddings)


def test_rare_and_unseen_tokens_share_one_embedding():
    tokenizer = fitted(["charm jokes", "charm film", "jokes"], min_count=2)
    assert tokenizer.fitted == {"size": 2}
    unknown, film, charm, jokes = tokens_of(tokenizer, "zebra", "film", "charm", "jokes").embeddings
    torch.testing.assert_close(unknown, film)
    assert not torch.equal(unknown, charm) and not torch.equal(charm, jokes)


def test_training_hides_tokens_but_no_separator():
    tokenizer = fitted(["charm jokes"], hide=0.3, context=256).train()
    batch = collate([tokenizer.encode(("charm " * 100, "jokes " * 100)) for _ in range(20)])
    with torch.no_grad():  # so that a token is the number of its embedding's row
        tokenizer.embedding.copy_(torch.arange(4)[:, None])
        tokenizer.segments.zero_()
        tokenizer.positions.weight.zero_()
    rows = tokenizer(batch).embeddings[:, 0].view(20, 201)
    assert rows[:, 100].eq(1).all()
    assert (rows == 0).float().mean() == pytest.approx(0.3, abs=0.03)
    assert not tokenizer.eval()(batch).embeddings.eq(0).any()


def test_a_run_without_a_space_is_cut_so_that_it_stays_cheap():
    letters = "".join(chr(97 + i * i % 26) for i in range(250))
    cut = " ".join([letters[:100], letters[100:200], letters[200:]])
    assert make().encode(letters)["tokens"].tolist() == make().encode(cut)["tokens"].tolist()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("", "text is empty; expected at least one word"),
        ("\t \n", "text is empty"),
        ("\x00\x01", "text is '\\x00\\x01', without any letter, digit or sign"),
        (None, "text is None; expected words"),
        (float("nan"), "text is nan; expected words"),
        (b"charm", "text is b'charm'; expected words"),
        ({"premise": "charm", "hypothesis": None}, "hypothesis is None; expected words"),
        (["charm", " "], "text 2 is empty"),
        (["charm"] * 3, "found 3 texts; expected one, or a pair of two"),
        (Path("nowhere.txt"), "text names the file nowhere.txt, which does not exist"),
        ("charm " * 100_000, "text is too long: more than 8192 tokens (max_tokens)"),
        ("charm, " * 5000, "text is too long: more than 8192"),
        (["charm " * 5000] * 2, "text 2 is too long: more than 8192"),
    ],
)
def test_what_is_no_text_is_told_in_one_line(sample, message):
    with pytest.raises(SampleError) as caught:
        make().encode(sample)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 120


def test_text_files(tmp_path):
    good, picture, empty = (tmp_path / name for name in ("my review.txt", "picture.txt", "empty.txt"))
    good.write_text("Not without charm.", encoding="utf-8")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    empty.touch()
    expected = make().encode("Not without charm.")["tokens"].tolist()
    assert make().encode(good)["tokens"].tolist() == expected
    for words in ("please read readme.txt", str(good), "readme.txt"):  # no path, whatever there is
        assert make().encode(words)["tokens"].tolist() == make().encode(f"{words} ")["tokens"].tolist() != expected
    for path, message in ((picture, "is no UTF-8 text"), (empty, "is empty"), (tmp_path, "cannot be read")):
        with pytest.raises(SampleError, match=message):
            make().encode(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context is 0; it must be at least 1"),
        ({"overlap": 128}, "overlap 128 leaves nothing new"),
        ({"max_tokens": 10}, "max_tokens is 10"),
        ({"hide": 1.0}, "hide is 1.0"),
        ({"min_count": 0}, "min_count is 0"),
        ({"token_rms_factor": 0.0}, "token_rms_factor is 0.0; it must be above 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_nothing_frequent_enough():
    with pytest.raises(ValueError, match="No token occurs 5 times in 1 texts; lower min_count."):
        make(min_count=5).learn(["charm"])


def test_open_clip_is_named_where_it_is_missing(monkeypatch):
    byte_pairs.clip_vocabulary.cache_clear()
    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", None)
    with pytest.raises(ImportError, match=r"needs open_clip_torch: pip install 'metatx\[clip\]'"):
        make().encode("charm")
    byte_pairs.clip_vocabulary.cache_clear()


def reviews(count):
    """Texts whose label the words ``good`` and ``bad`` say."""
    rng = np.random.default_rng(0)
    labels = rng.choice(["bad", "good"], count)
    return [" ".join([*rng.choice(WORDS, 4), label, *rng.choice(WORDS, 3)]) for label in labels], labels.tolist()


def test_the_classical_baseline_is_tf_idf():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    train, test = Examples(*reviews(120)), Examples(["a good film", "no charm", "bad jokes"], ["good", "bad", "bad"])
    head = create("heads", "classification", 16).learn(train.targets)
    found = baselines(make().learn(train.inputs), head, train, test)["classical"]
    words = TfidfVectorizer(ngram_range=(1, 2)).fit(train.inputs)
    model = LogisticRegression(C=10).fit(words.transform(train.inputs), train.targets)
    expected = model.score(words.transform(test.inputs), test.targets)
    assert found["TF-IDF, logistic regression"]["accuracy"] == expected == 1
    numbers = Examples(train.inputs, [float(len(words)) for words in train.inputs])
    head = create("heads", "regression", 16).learn(numbers.targets)
    found = baselines(make().learn(train.inputs), head, numbers, numbers)["classical"]
    ridge = Ridge().fit(words.transform(train.inputs), numbers.targets)
    r2 = ridge.score(words.transform(train.inputs), numbers.targets)
    assert found["TF-IDF, ridge regression"]["r2"] == pytest.approx(r2, abs=1e-3)


def test_train_on_a_table_of_pairs_and_on_a_folder_of_classes(tmp_path, capsys):
    texts, labels = reviews(60)
    frame = pd.DataFrame({"question": texts, "reply": texts[::-1], "label": labels})
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    quick = "--epochs 4 --lr 1e-2 --batch_size 16 --tokenizer.hide 0"
    with pytest.raises(SystemExit):
        main(f"train {tmp_path}/pairs.csv --modality text {quick} --out {tmp_path}/unsaid".split())
    assert "Name it with --inputs; it may be question, reply" in capsys.readouterr().err
    pairs = f"{tmp_path}/pairs.csv --inputs question,reply"
    main(f"train {pairs} --modality text {quick} --out {tmp_path}/a".split())
    for split, part in (("train", slice(0, 50)), ("test", slice(50, 60))):
        for i, (words, label) in enumerate(zip(texts[part], labels[part], strict=True)):
            path = tmp_path / "data" / split / label / f"{i}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(words)
    main(f"train {tmp_path}/data --modality text {quick} --out {tmp_path}/b".split())
    capsys.readouterr()
    main(f"predict {tmp_path}/b/task {path} --out {tmp_path}/answer.csv".split())
    assert pd.read_csv(tmp_path / "answer.csv").prediction.tolist() == [labels[-1]]
    main(f"predict {tmp_path}/b/task {tmp_path}/data --out {tmp_path}/answer.csv".split())
    found = pd.read_csv(tmp_path / "answer.csv")
    assert found.prediction.tolist() == sorted(labels[50:]) and found.file.str.endswith(".txt").all()


def test_cells_of_tables_are_words_also_where_they_name_files(tmp_path, capsys):
    texts, labels = reviews(40)
    pd.DataFrame({"words": texts, "label": labels}).to_csv(tmp_path / "a.csv", index=False)
    main(f"train {tmp_path}/a.csv --modality text --epochs 4 --lr 1e-2 --out {tmp_path}/a".split())
    (tmp_path / "secret.txt").write_text(texts[0])
    names = ["secret.txt", str(tmp_path / "secret.txt"), "nowhere.txt"]
    pd.DataFrame({"words": names}).to_csv(tmp_path / "asked.csv", index=False)
    task = Task.from_pretrained(tmp_path / "a" / "task", load_backbone("nano"))
    expected = task.predict_proba([f"{name} " for name in names])
    np.testing.assert_allclose(task.predict_proba(str(tmp_path / "asked.csv")), expected, atol=1e-6)
    assert not np.allclose(expected[0], task.predict_proba([tmp_path / "secret.txt"])[0], atol=1e-3)
