"""Rows held out: as scikit-learn holds them out where that works, and never a class's last."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from metatx.data.holdout import by_class, with_each_class

labels = st.lists(st.integers(0, 6), min_size=2, max_size=60).filter(lambda found: len(set(found)) < len(found))
shares = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.7])


@settings(deadline=None, max_examples=300)
@given(labels, shares, st.integers(0, 5))
def test_each_class_keeps_a_row_and_has_its_share(found, fraction, seed):
    found = np.array(found).astype(str)
    kept, held = by_class(found, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(found)))
    assert set(found[kept]) == set(found)
    again = by_class(found, fraction, seed)
    assert (again[0].tolist(), again[1].tolist()) == (kept.tolist(), held.tolist())
    wanted = int(np.ceil(fraction * len(found)))
    spare = len(found) - len(set(found))
    assert len(held) == min(wanted, spare)
    for name in set(found):
        count = (found == name).sum()
        share = (found[held] == name).sum()
        assert share <= count - 1 and (wanted > spare or share >= min(np.floor(count * fraction), count - 1) - 1)


@settings(deadline=None, max_examples=200)
@given(labels, shares, st.integers(0, 5))
def test_the_rows_are_scikit_learns_where_it_can_stratify(found, fraction, seed):
    found = np.array(found).astype(str)
    if np.unique(found, return_counts=True)[1].min() < 2 or fraction * len(found) < len(set(found)):
        return
    try:
        kept, held = train_test_split(np.arange(len(found)), test_size=fraction, random_state=seed, stratify=found)
    except ValueError:
        return
    if set(found[kept]) == set(found):
        own = by_class(found, fraction, seed)
        assert (own[0].tolist(), own[1].tolist()) == (kept.tolist(), held.tolist())


def test_one_rare_class_does_not_end_stratification_for_the_others():
    found = np.array(["rare", *["a"] * 100, *["b"] * 10])
    for seed in range(20):
        _, held = by_class(found, 0.2, seed)
        names, counts = np.unique(found[held], return_counts=True)
        assert names.tolist() == ["a", "b"] and counts.tolist() in ([20, 3], [21, 2])


def test_nothing_can_be_held_out_where_each_has_a_label_of_its_own():
    with pytest.raises(ValueError, match="Each of the 9 samples has a label of its own.*--validation and --test"):
        by_class(np.arange(9), 0.2, 0)


sets = st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=2, max_size=30)


@settings(deadline=None, max_examples=300)
@given(sets, st.data())
def test_rows_are_exchanged_only_where_a_class_would_be_lost(targets, data):
    order = np.array(data.draw(st.permutations(range(len(targets)))))
    cut = data.draw(st.integers(1, len(targets) - 1))
    kept, held = with_each_class(order[cut:], order[:cut], targets, set)
    assert sorted([*kept, *held]) == list(range(len(targets))) and len(kept) and len(held)
    present = {name for row in order[cut:] for name in targets[row]}
    everything = {name for target in targets for name in target}
    if present == everything:
        assert kept.tolist() == order[cut:].tolist() and held.tolist() == order[:cut].tolist()
    elif not (kept.tolist() == order[cut:].tolist()):
        assert {name for row in kept for name in targets[row]} == everything
        assert len(held) <= cut
    else:
        assert all(set(targets[row]) - present for row in held), "only then nothing would be left to hold out"


def test_without_targets_the_rows_stay():
    rows = np.arange(4)
    kept, held = with_each_class(rows[:3], rows[3:], [], set)
    assert kept.tolist() == [0, 1, 2] and held.tolist() == [3]
