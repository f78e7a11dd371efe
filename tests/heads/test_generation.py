"""Answers in words: the loss counts the target alone, answers are transformers' own, bad input is one clear line."""

from pathlib import Path
from shutil import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM

import metatx
from metatx import SampleError, TokenSequence
from metatx.registry import create
from tests.adapters.trained import scramble
from tests.backbone.language_models import write_model

NANO = metatx.load_backbone("nano")


ROWS = pd.DataFrame({"q": ["one two", "red", "a b c d"] * 4, "a": ["three", "rose", "e f"] * 4})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("lm") / "llama", "llama", tie_word_embeddings=True)


@pytest.fixture(scope="module")
def backbone(folder):
    return metatx.load_backbone(f"transformers:{folder}")


def made(backbone, rows=ROWS, inputs=("q",), **options) -> metatx.Task:
    return metatx.Task.from_data(
        backbone, "text", rows, target="a", inputs=list(inputs), head="generation", head_options=options
    )


@pytest.fixture(scope="module")
def untied_folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("lm") / "untied"
    return write_model(place, "mistral", output=True, tie_word_embeddings=False)


@pytest.mark.parametrize("length", [1, 2, 8])
@pytest.mark.parametrize("kind", ["folder", "untied_folder"])
def test_greedy_from_embeddings_is_greedy_from_numbers(request, kind, length) -> None:
    folder = request.getfixturevalue(kind)
    backbone = metatx.load_backbone(f"transformers:{folder}")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = [[7 + at for at in range(length)], [90 + at for at in range(length + 3)]]
    tokens = backbone.token_embeddings(torch.tensor(sum(prompts, [])))
    found = backbone.generate(TokenSequence(tokens, tuple(map(len, prompts))), end=2, most=12)
    for prompt, numbers in zip(prompts, found, strict=True):
        given = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": 2, "pad_token_id": 2}
        assert numbers.tolist() == model.generate(torch.tensor([prompt]), **given)[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ["folder", "untied_folder"])
def test_the_loss_counts_the_tokens_of_the_target_alone(request, kind) -> None:
    folder = request.getfixturevalue(kind)
    backbone = metatx.load_backbone(f"transformers:{folder}")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    task = made(backbone, prompt="so")
    task.model.eval()
    encoded = task.encode(ROWS[:3], "test")
    output = task.model(*encoded.batch([0, 1, 2])).detach()
    words = backbone.stems["text"]
    for row, question, answer in zip(output, ROWS.q, ROWS.a, strict=False):
        prompt = [*words.numbers(question), *words.numbers("so")]
        target = [*words.numbers(f" {answer}"), 2]
        logits = model(torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1]
        expected = F.cross_entropy(logits, torch.tensor(target), reduction="sum").item()
        assert row[0].item() == pytest.approx(expected, rel=1e-4) and row[1] == len(target)
    assert task.evaluate(ROWS[:3])["loss"] == pytest.approx((output[:, 0] / output[:, 1]).mean().item())


def test_training_draws_one_text_of_a_target_and_evaluation_uses_all(backbone) -> None:
    rows = pd.DataFrame({"q": ["one"] * 4, "a": [["two", "three four"]] * 4})
    task = made(backbone, rows, soft_prompt=1)
    encoded = task.encode(rows, "train")
    inputs, targets = encoded.batch([0, 1, 2, 3])
    sizes = {len(row[row >= 0]) for row in targets[0]}
    task.model.train()
    assert set(task.model(inputs, targets)[:, 1].tolist()) <= sizes and task.model(inputs, targets).shape == (4, 2)
    assert task.model.eval()(inputs, targets)[:, 1].tolist() == [sum(sizes)] * 4


def test_a_soft_prompt_learns_and_the_language_model_does_not(backbone, tmp_path) -> None:
    before = backbone.fingerprint
    task = made(backbone, soft_prompt=4)
    first = task.evaluate(ROWS)["nats_per_token"]
    task.fit(ROWS, epochs=15, lr=0.05, batch_size=4)
    assert task.evaluate(ROWS)["nats_per_token"] < 0.8 * first and task.trainable_parameters == 4 * 64
    assert backbone.fingerprint == before and all(weight.grad is None for weight in backbone.parameters())
    answers = task.predict(ROWS.q[:3].tolist())
    again = metatx.Task.from_pretrained(task.save_pretrained(tmp_path / "task"), backbone=backbone)
    assert again.predict(ROWS.q[:3].tolist()).tolist() == answers.tolist()
    assert "at most" in (tmp_path / "task" / "README.md").read_text()


def test_a_sample_is_answered_alone_as_among_others(backbone) -> None:
    task = made(backbone, max_new_tokens=6)
    together = task.records(["one two three four", "red", "x y"])
    assert together == [task.records([question])[0] for question in ("one two three four", "red", "x y")]
    assert all(set(record) == {"prediction", "ended"} for record in together)


def test_an_end_that_never_comes_is_bounded_and_said(backbone) -> None:
    task = made(backbone, max_new_tokens=5, end="~")
    assert not task.records(["one"])[0]["ended"]
    task.head.end = backbone.generate(task.model.tokens(task.encode(ROWS[:1], "test").batch([0])[0]), end=2, most=1)[0]
    task.head.end = int(task.head.end[0])
    assert task.records([ROWS.q[0]])[0] == {"prediction": "", "ended": True}


def test_drawn_answers_are_the_same_each_time(backbone) -> None:
    task = made(backbone, max_new_tokens=8, temperature=1.5, top_p=0.9)
    assert task.predict(["one"]).tolist() == task.predict(["one"]).tolist()
    assert task.predict(["one"]).tolist() != made(backbone, max_new_tokens=8).predict(["one"]).tolist()


def test_an_adapter_changes_what_is_written_as_it_changes_the_pass(backbone) -> None:
    frozen = made(backbone, max_new_tokens=5)
    task = metatx.Task.from_data(
        backbone,
        "text",
        ROWS,
        target="a",
        inputs=["q"],
        head="generation",
        tune="lora",
        head_options=frozen.head.options,
    )
    scramble(task.adapter)
    tokens = task.model.tokens(task.encode(ROWS[:1], "test").batch([0])[0]).embeddings.detach()
    numbers: list[int] = []
    while len(numbers) < 5 and numbers[-1:] != [2]:
        written = torch.cat([tokens, backbone.token_embeddings(torch.tensor(numbers, dtype=torch.long))])
        read = backbone(TokenSequence(written, (len(written),)), adapter=task.adapter)
        numbers.append(int(backbone.logits(read.embeddings[-1]).argmax()))
    output = task.model(task.encode(ROWS[:1], "test").batch([0])[0])
    assert (
        output[0, 2:].int().tolist()
        == numbers
        != frozen.model(frozen.encode(ROWS[:1], "test").batch([0])[0])[0, 2:].tolist()
    )
    pool = metatx.TaskPool(backbone)
    pool.add("lora", task)
    pool.add("frozen", frozen)
    asked = [("lora", "one two"), ("frozen", "one two"), ("lora", "red")]
    assert pool.predict(asked) == [pool.task(name).predict([sample])[0] for name, sample in asked]


def test_a_chain_of_thought_is_a_template_and_an_expression(backbone) -> None:
    head = create(
        "heads", "generation", 64, prompt="{text} Let us think.", answer=r"Answer: (\w+)", stem=backbone.stems["text"]
    ).learn(["We know. Answer: red", "blue"])
    rows = [head.encode(text)[0] for text in ("It is dark. Answer: red.", "I do not know")]
    output = torch.nn.utils.rnn.pad_sequence([torch.cat([torch.ones(2), row]) for row in rows], True, -1)
    assert head.decode(output).tolist() == ["red", None]
    assert head.records(output)[0] == {"prediction": "red", "text": "It is dark. Answer: red.", "ended": True}
    written, texts = head.metric_inputs(output, [head.encode("Answer: red"), head.encode(["blue", "Answer: navy"])])
    assert [each.text for each in written] == ["red", ""] and texts == [["red"], ["blue", "navy"]]


def test_few_shots_are_inputs_in_turn(backbone) -> None:
    rows = pd.DataFrame({"p1": ["aa"] * 2, "a1": ["bb"] * 2, "p2": ["cc", "dd"], "a": ["ee", "ff"]})
    inputs = {"p1": "text", "a1": "text", "p2": "text"}
    plain = metatx.Task.from_data(backbone, inputs, rows, target="a", head="generation")
    words = backbone.stems["text"]
    batch = plain.encode(rows, "test").batch([0])[0]
    assert torch.equal(plain.model.tokens(batch).embeddings, words(torch.tensor(words.numbers("aabbcc"))))
    options = {"prompt": "Q {p1} is {a1}; {{{p2}}}"}
    shaped = metatx.Task.from_data(backbone, inputs, rows, target="a", head="generation", head_options=options)
    wanted = words(torch.tensor(words.numbers("Q aa is bb; {cc}")))
    assert torch.equal(shaped.model.tokens(batch).embeddings, wanted)
    assert plain.trainable_parameters == 0 and len(shaped.predict([{"p1": "aa", "p2": "cc"}])) == 1


def test_a_picture_is_read_by_another_backbone_first(backbone, tmp_path) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.full((32, 32, 3), 255 * (at % 2), np.uint8) for at in range(8)]
    rows = {"photo": pictures, "a": [["dark", "black"], ["light", "white"]] * 4, "q": [str(rng.integers(9))] * 8}
    photo = metatx.Input(
        name="photo", modality="image", frozen=True, through={"backbone": "nano", "bridge": "resampler", "latents": 2}
    )
    task = metatx.Task.from_data(
        backbone, [photo, metatx.Input(name="q", modality="text")], rows, target="a", head="generation", others=NANO
    )
    task.fit(rows, epochs=12, lr=1e-2, batch_size=4)
    others = {**rows, "photo": pictures[1:] + pictures[:1]}
    assert task.evaluate(rows)["nats_per_token"] < task.evaluate(others)["nats_per_token"] - 0.1
    assert all(weight.grad is None for other in (backbone, NANO) for weight in other.parameters())
    folder = task.save_pretrained(tmp_path / "task")
    again = metatx.Task.from_pretrained(folder, backbone=backbone, others=NANO)
    assert again.predict(rows).tolist() == task.predict(rows).tolist()
    pool = metatx.TaskPool(backbone, others=NANO)
    pool.add("captions", folder)
    sample = {"photo": pictures[1], "q": "1"}
    assert pool.predict([("captions", sample)]) == task.predict([sample]).tolist()


@pytest.mark.parametrize(
    ("target", "reason"),
    [("", "is empty"), (" ", "is empty"), ([], "is empty"), (["", None], "is empty"), ([["a"]], "a list of texts")],
)
def test_a_target_without_words_is_refused(backbone, target, reason) -> None:
    head = create("heads", "generation", 64, stem=backbone.stems["text"])
    with pytest.raises(SampleError, match=reason):
        head.screen(target)


def test_an_empty_target_is_named_before_training(backbone) -> None:
    with pytest.raises(ValueError, match="row 2: the target is empty"):
        made(backbone, pd.DataFrame({"q": ["one", "two"], "a": ["b", " "]}))


def test_a_long_target_or_prompt_is_one_line(backbone) -> None:
    with pytest.raises(ValueError, match="row 1: the target has 9 tokens; expected at most 4"):
        made(backbone, max_target_tokens=4).encode(pd.DataFrame({"q": ["one"], "a": ["one two"]}), "train")
    long = pd.DataFrame({"q": ["one", "two " * 30], "a": ["b", "c"]})
    with pytest.raises(ValueError, match=r"row 2: .* at most 512 together.*--head.max-new-tokens"):
        made(backbone, max_new_tokens=450).fit(long, epochs=1)
    with pytest.raises(SampleError, match="sample 1: .*cut into several sequences.*context"):
        made(backbone).predict(["two " * 60])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prompt": "{photo} is"}, "Unknown input in the prompt 'photo'.*Choices: text"),
        ({"prompt": "{text"}, "The prompt is .*expected words"),
        ({"answer": "("}, "no regular expression"),
        ({"end": "abc"}, "which is 3 tokens"),
        ({"top_p": 0.0}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_bad_options_are_one_line(backbone, options, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        made(backbone, **options)


def test_a_backbone_that_cannot_write_is_refused_before_training(tmp_path) -> None:
    with pytest.raises(ValueError, match="needs a causal language model"):
        made(NANO)
    with pytest.raises(ValueError, match="it is no causal language model"):
        made(metatx.load_backbone(f"transformers:{write_model(tmp_path / 'bert', 'bert')}"))
    with pytest.raises(ValueError, match="without its output layer"):
        made(metatx.load_backbone(f"transformers:{write_model(tmp_path / 'bare', 'llama', tie_word_embeddings=False)}"))


def test_an_end_token_outside_of_the_table_or_of_no_name_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="tokenizer does not match the weights"):
        metatx.load_backbone(f"transformers:{write_model(tmp_path / 'a', 'llama', eos_token_id=999)}")
    folder = write_model(tmp_path / "b", "llama", eos_token_id=None, tie_word_embeddings=True)
    with pytest.raises(ValueError, match="names no end token.*--head.end"):
        made(metatx.load_backbone(f"transformers:{folder}"))


def test_a_fusion_that_is_no_sequence_is_refused(backbone) -> None:
    rows = pd.DataFrame({"p": ["a", "b"], "q": ["c", "d"], "a": ["e", "f"]})
    for fusion, options in (("bottleneck", {}), ("late", {"dropout": 0.5}), ("late", {"product": 4})):
        with pytest.raises(ValueError, match="one after the other"):
            metatx.Task.from_data(
                backbone,
                {"p": "text", "q": "text"},
                rows,
                target="a",
                head="generation",
                fusion=fusion,
                fusion_options=options,
            )


def test_an_output_layer_of_its_own_is_kept_and_changes_nothing_that_is_read(untied_folder, tmp_path) -> None:
    backbone = metatx.load_backbone(f"transformers:{untied_folder}")
    bare = tmp_path / "bare"
    AutoModel.from_pretrained(untied_folder).save_pretrained(bare)
    copy(untied_folder / "tokenizer.json", bare)
    assert backbone.fingerprint == metatx.load_backbone(f"transformers:{bare}").fingerprint
    task = made(backbone, soft_prompt=2)
    task.fit(ROWS, epochs=1)
    task.save_pretrained(tmp_path / "task")
    again = metatx.Task.from_pretrained(tmp_path / "task", backbone=backbone)
    assert list(again.predict(ROWS[:3])) == list(task.predict(ROWS[:3]))


@pytest.mark.parametrize("kind", ["folder", "untied_folder"])
def test_random_weights_predict_no_word_with_confidence(request, kind) -> None:
    control = metatx.load_backbone(f"transformers:{request.getfixturevalue(kind)}").randomised()
    tokens = control(TokenSequence(control.token_embeddings(torch.arange(40)), (40,))).embeddings
    assert 0.5 < control.logits(tokens).std() < 2
