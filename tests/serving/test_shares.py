"""Dynamic thresholds: nobody takes all, whoever has little gets in, and what is given back is there again."""

from hypothesis import given
from hypothesis import strategies as st

from metatx.serving.shares import OVER, Shares

STEPS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 400)), max_size=80)


def test_one_alone_takes_two_thirds_and_leaves_room_for_the_next():
    shares = Shares(lambda: 900)
    while not shares.excess("heavy", 30):
        shares.add("heavy", 30)
    assert shares.holds("heavy") == 600 == shares.total
    assert not shares.excess("light", 200) and shares.excess("heavy", 30) == 30
    shares.add("light", 150)
    assert not shares.excess("light", 50) and shares.excess("light", 200) == 150


def test_a_newcomer_gets_in_where_all_is_taken_and_each_may_have_a_little():
    shares = Shares(lambda: 160)
    shares.add("heavy", 160)
    assert not shares.excess("new", 160)  # whatever it is, once
    shares.add("new", 6)
    assert not shares.excess("new", 4) and shares.excess("new", 5) == 11
    shares.add("heavy", 160)
    assert shares.excess("other", 1) > 0  # twice the budget is the end


@given(STEPS)
def test_the_whole_is_bounded_and_empty_when_all_is_given_back(steps):
    shares, taken = Shares(lambda: 1000), []
    for holder, amount in steps:
        if not shares.excess(holder, amount):
            shares.add(holder, amount)
            taken.append((holder, amount))
    assert shares.total == sum(amount for _, amount in taken) <= OVER * 1000 + 400
    for holder, amount in taken:
        shares.add(holder, -amount)
    assert shares.total == 0 and not shares.amounts
