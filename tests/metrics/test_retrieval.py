"""Ranks of partners: equal to a ranking that is written out, and fair to what is equally near."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.metrics.retrieval import chance_ranking, partner_ranking

ANGLES = st.integers(0, 5)  # few directions, so that many answers are equally near


@st.composite
def sides(draw):
    """Few queries and answers on a circle, with the numbers of their pairs; at least one has a partner."""
    queries = draw(st.lists(st.tuples(ANGLES, st.integers(0, 3)), min_size=1, max_size=4))
    answers = draw(st.lists(st.tuples(ANGLES, st.integers(0, 3)), min_size=0, max_size=5))
    answers.append((draw(ANGLES), queries[0][1]))
    return queries, answers


def unit(angles) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=np.float32)


def written_out(queries, answers, at):
    """Measures by ranking every order of the answers that their likeness allows."""
    reciprocals, ranks = [], []
    hits = {k: [] for k in at}
    for angle, number in queries:
        if number not in [other for _, other in answers]:
            continue
        orders = set()
        for order in permutations(range(len(answers))):
            likeness = [round(float(np.cos(angle - answers[i][0])), 5) for i in order]
            if likeness == sorted(likeness, reverse=True):
                orders.add(order)
        firsts = [1 + next(p for p, i in enumerate(order) if answers[i][1] == number) for order in orders]
        reciprocals.append(np.mean([1 / first for first in firsts]))
        ranks.append(np.mean(firsts))
        for k in at:
            hits[k].append(np.mean([first <= k for first in firsts]))
    shares = {f"recall@{k}": np.mean(values) for k, values in hits.items()}
    return {**shares, "mrr": np.mean(reciprocals), "median_rank": np.median(ranks)}


@settings(max_examples=60, deadline=None)
@given(sides())
def test_ranks_equal_those_that_are_written_out(drawn) -> None:
    queries, answers = drawn
    vectors = (unit([angle for angle, _ in side]) for side in drawn)
    numbers = (np.array([number for _, number in side]) for side in drawn)
    measures = partner_ranking(*vectors, *numbers, at=(1, 2, 10))
    assert measures == pytest.approx(written_out(queries, answers, (1, 2, 10)), abs=1e-9)


def test_the_best_of_several_partners_counts() -> None:
    pictures = np.eye(2, dtype=np.float32)
    captions = np.eye(2, dtype=np.float32)[[1, 0, 1, 1]]
    there = partner_ranking(pictures, captions, np.arange(2), np.array([0, 0, 1, 1]), at=(1,))
    back = partner_ranking(captions, pictures, np.array([0, 0, 1, 1]), np.arange(2), at=(1,))
    assert there["recall@1"] == pytest.approx((1 + 2 / 3) / 2), "one of three equally near captions is not the second's"
    assert back["recall@1"] == 0.75 and back["median_rank"] == 1


@pytest.mark.parametrize("size", [1, 7, 1100])
def test_vectors_that_are_all_the_same_score_chance(size: int) -> None:
    same = np.full((size, 8), 8**-0.5, dtype=np.float32)
    numbers = np.arange(size)
    chance = chance_ranking(numbers, numbers)
    assert partner_ranking(same, same, numbers, numbers) == pytest.approx(chance)
    assert chance["recall@1"] == pytest.approx(1 / size) and chance["median_rank"] == (size + 1) / 2


def test_chance_is_the_mean_of_random_rankings() -> None:
    rng = np.random.default_rng(0)
    asked, answered = np.arange(20), np.repeat(np.arange(20), 3)
    draws = [partner_ranking(rng.normal(size=(20, 9)), rng.normal(size=(60, 9)), asked, answered) for _ in range(200)]
    for name, value in chance_ranking(asked, answered).items():
        assert np.mean([draw[name] for draw in draws]) == pytest.approx(value, rel=0.15), name


def test_a_query_without_a_partner_asks_nothing() -> None:
    axes = np.eye(3, dtype=np.float32)
    assert partner_ranking(axes, axes, np.array([0, 1, 9]), np.arange(3))["recall@1"] == 1
    with pytest.raises(ValueError, match="No sample has a partner"):
        partner_ranking(axes, axes, np.array([7, 8, 9]), np.arange(3))
