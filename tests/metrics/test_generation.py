"""Measures of written answers: the numbers of coco-caption's own code, and values computed by hand."""

import math

import pytest

from metatx.baselines.answers import ConstantAnswer, NearestAnswer
from metatx.metrics.generation import Blank, Bleu, Cider, ExactMatch, Nats, RougeL, Written, cider, words_of

REFERENCES = [
    ["A black dog runs through the green grass.", "A dog is running on grass", "The black dog runs"],
    ["Two children play football in a park", "Kids are playing with a ball in the park", "Two boys play football"],
    ["A man climbs a steep rock face", "A climber on a rock", "A man in a red shirt is climbing a rock wall outdoors"],
    [
        "A girl in a pink dress climbs the stairs",
        "A little girl climbing stairs",
        "A child climbs up a set of stairs !",
    ],
    ["A brown dog lies on the grass", "A dog sleeps"],
]
ANSWERS = [
    "a black dog runs on the grass",
    "two boys play football in the park with a ball",
    "a man is climbing a rock",
    "a dog in a pink dress",
    "a dog a dog a dog on the grass",
]
# pycocoevalcap 1.2 (coco-caption's code) on these texts in lower case and without punctuation.
COCO = {"bleu4": 0.4505030826, "cider": [2.9870006397, 2.9437131149, 2.0261857583, 1.2351954084, 0.9481140071]}


def measured(metric, answers=ANSWERS, references=REFERENCES) -> float:
    metric.update([Written(answer) for answer in answers[:1]], references[:1])
    metric.update([Written(answer) for answer in answers[1:]], references[1:])
    return float(metric.compute())


def test_cider_and_bleu_are_those_of_coco_caption() -> None:
    scores = cider(list(map(words_of, ANSWERS)), [list(map(words_of, texts)) for texts in REFERENCES])
    assert scores == pytest.approx(COCO["cider"], rel=1e-6)
    assert measured(Cider()) == pytest.approx(sum(COCO["cider"]) / 5, rel=1e-6)
    assert measured(Bleu()) == pytest.approx(COCO["bleu4"], rel=1e-6)


def test_the_own_target_scores_ten_and_another_zero() -> None:
    texts = [["a b c d e"], ["f g h i j"]]
    assert measured(Cider(), ["a b c d e", "f g h i j"], texts) == pytest.approx(10)
    assert measured(Cider(), ["f g h i j", "a b c d e"], texts) == 0
    single = Cider()
    single.update([Written("a")], [["a"]])
    with pytest.raises(ValueError, match="two samples or more"):
        single.compute()


def test_blank_answers_are_counted() -> None:
    assert measured(Blank(), ["a dog", "", " \n", "."], [["a dog"]] * 4) == pytest.approx(0.5)


def test_rouge_is_the_longest_common_subsequence_with_the_nearest_text() -> None:
    # "a c d" of "a b c d": recall 3/4, precision 3/4 of "a c x d"; the second text shares less
    assert measured(RougeL(), ["a c x d"], [["q a", "A b, c d."]]) == pytest.approx(0.75)
    assert measured(RougeL(), ["кот спит"], [["кот спит"]]) == 1


def test_exact_match_reads_words_alone() -> None:
    assert measured(ExactMatch(), ["Yes.", "2", "no"], [["yes"], ["two", "2"], ["none"]]) == pytest.approx(2 / 3)


def test_nats_are_a_mean_over_all_tokens() -> None:
    metric, perplexity = Nats(), Nats(exponential=True)
    for each in (metric, perplexity):
        each.update([Written("", 6.0, 2), Written("", 2.0, 2)], [[""], [""]])
    assert metric.compute() == 2 and float(perplexity.compute()) == pytest.approx(math.exp(2))
    assert math.isnan(measured(Nats()))


def test_the_constant_answer_is_the_most_like_all_and_the_nearest_that_of_the_neighbour() -> None:
    answers = [["a dog runs on grass"], ["a dog runs"], ["the moon"], ["a dog on the grass runs", "a cat"]]
    features = [[0.0], [1.0], [5.0], [2.0]]
    constant = ConstantAnswer(list).fit(features, answers)
    assert constant.predict([[0]] * 2).tolist() == ["a dog runs on grass"] * 2
    assert ConstantAnswer(list).fit(None, [["yes"], ["no"], ["yes"]]).predict([0]).tolist() == ["yes"]
    assert NearestAnswer(list).fit(features, answers).predict([[4.6], [2.2]]).tolist() == ["the moon", answers[3][0]]
