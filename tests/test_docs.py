"""Every code block of the pages in docs/, and every cell of its notebook, runs and prints what stands there."""

from pathlib import Path

import pytest

from tests.documents import Outcome, blocks_of, cells_of, check, needs_data, run_documents

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
BLOCKS = [block for name, text in PAGES.items() for block in blocks_of(text, name)]
RUN = [block for block in BLOCKS if block.language in ("python", "bash")] + cells_of(DOCS / "start.ipynb")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All documents, each run once."""
    return run_documents([block for block in RUN if not needs_data(block)], tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.place)
def test_block_runs_as_shown(block, outcomes: dict[str, Outcome]) -> None:
    if needs_data(block):
        pytest.skip("METATX_DATA is not set")
    check(block, outcomes[block.document])


def test_pages_have_code_in_known_languages_only() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "bash", "text"}


def test_every_modality_has_a_page_with_an_example_that_is_run() -> None:
    tokenizers = {path.stem for path in (DOCS.parent / "tokenizers").glob("*.py")}
    with_example = {block.document for block in BLOCKS if block.language == "python"}
    assert {f"modalities/{name}.md" for name in tokenizers} <= with_example
