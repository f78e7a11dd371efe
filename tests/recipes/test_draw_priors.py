"""Picture of the priors."""

import draw_priors
from PIL import Image


def test_all_priors_are_in_one_picture(tmp_path):
    made = draw_priors.main(out=str(tmp_path / "priors.png"), count=2)
    fewer = draw_priors.main(out=str(tmp_path / "some.png"), only="text,image", count=2)
    assert Image.open(made).height > 3 * Image.open(fewer).height
