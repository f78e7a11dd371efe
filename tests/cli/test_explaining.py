"""``metatx explain``: a row of a table, words as they are, a page and a picture; what cannot be is said before work."""

import pytest

import metatx
from metatx.cli import main


@pytest.fixture(scope="module")
def saved(nano, table, tmp_path_factory):
    """Folder of a task on rows, and a file with them."""
    folder = tmp_path_factory.mktemp("explained")
    task = metatx.Task.from_data(nano, "tabular", table, target="kind").fit(table, epochs=2)
    table.to_csv(folder / "rows.csv", index=False)
    return task.save_pretrained(folder / "task"), folder / "rows.csv"


def test_a_row_is_explained(saved, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    task, rows = map(str, saved)
    page = tmp_path / "why.html"
    main(["explain", task, rows, "--row", "3", "--target", "no", "--out", str(page)])
    said = capsys.readouterr().out
    assert said.startswith("no: score") and "elieve it" in said
    content = page.read_text()
    assert "data:image/png;base64," in content and "<td>b</td>" in content


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--row", "999"], "has samples 1 to 240"),
        (["--out", "why.pdf"], "expected one with .png or .html"),
        (["--target", "maybe"], "maybe"),
    ],
)
def test_what_cannot_be_explained_is_told(saved, options, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["explain", *map(str, saved), *options])
    assert ended.value.code == 2 and said in capsys.readouterr().err
