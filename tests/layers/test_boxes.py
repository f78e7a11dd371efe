"""Boxes on a grid of cells: who answers for a box, and which boxes found count."""

import torch

from metatx.layers.boxes import assign_cells, cell_centres, true_positives


def test_centres_go_row_by_row():
    expected = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    assert torch.equal(cell_centres(2, 2, torch.device("cpu")), expected)
    assert cell_centres(2, 3, torch.device("cpu"))[4].tolist() == [0.5, 0.75]


def test_a_cell_answers_for_the_smallest_box_around_its_centre():
    centres = cell_centres(6, 6, torch.device("cpu"))
    large, small, tiny = [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.7, 0.7], [0.9, 0.05, 0.91, 0.06]
    owners = assign_cells(centres, torch.tensor([large, small, tiny]), 6, 6).view(6, 6)
    assert (owners[2:4, 2:4] == 1).all(), "of two boxes the smaller"
    assert owners[0, 5] == 2, "a box without a centre has the nearest cell"
    assert owners[0, 0] == -1, "inside the large box, but more than 1.5 cells from its centre"
    assert (assign_cells(centres, torch.zeros(0, 4), 6, 6) == -1).all()


def test_a_true_box_is_found_once_and_by_its_class():
    box = [0.1, 0.1, 0.5, 0.5]
    found = torch.tensor([[1.0, *box, 0.9], [0.0, *box, 0.8], [0.0, *box, 0.7], [0.0, 0.6, 0.6, 0.9, 0.9, 0.6]])
    truth = torch.tensor([[0.0, *box]])
    assert true_positives(found, truth).tolist() == [False, True, False, False]
    assert not true_positives(found, truth[:0]).any()
