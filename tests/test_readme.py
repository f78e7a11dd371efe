"""Every code block of README.md runs, in the order it is read, and prints what README.md says."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.documents import SETUP, Outcome, agrees, blocks_of, check, needs_data, run_documents

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = blocks_of((ROOT / "README.md").read_text())
RUN = [block for block in BLOCKS if block.language in ("python", "bash")]
SETUPS = [match for block in RUN for line in block.text.splitlines() if (match := SETUP.fullmatch(line.strip()))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """README.md, run once."""
    runnable = [block for block in RUN if not needs_data(block)]
    return run_documents(runnable, tmp_path_factory.mktemp("readme"))["README.md"]


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.language} at line {block.line}")
def test_block_runs_as_shown(block, outcome: Outcome) -> None:
    if needs_data(block):
        pytest.skip("METATX_DATA is not set")
    check(block, outcome)


def test_readme_has_code_in_known_languages_only() -> None:
    assert RUN
    assert {block.language for block in BLOCKS} <= {"python", "bash", "text"}


def test_readme_is_read_in_minutes() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 200


def test_make_targets_of_readme_exist() -> None:
    targets = {match["target"] for match in SETUPS if match["target"]}
    assert targets >= {"quickstart", "test"}
    for target in sorted(targets):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_extras_of_readme_exist_and_all_are_named() -> None:
    packages = " ".join(match["packages"] for match in SETUPS if match["packages"])
    installed = {extra for extras in re.findall(r"\[([\w,]+)\]", packages) for extra in extras.split(",")}
    assert installed
    assert installed <= EXTRAS.keys()
    table = "\n".join(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `"))
    assert EXTRAS.keys() - {"all", "docs"} <= set(re.findall(r"`(\w+)`", table))


def test_the_rules_catch_wrong_output_and_failing_blocks(tmp_path: Path) -> None:
    """The checker must see a wrong number, output that is not shown, and a failing command."""
    example = (
        "```python\nx = 2 / 3\nprint(f'{x} of', 12)  # 0.67 of 12\nprint('a  b')\n# a b\n```\n"
        "```bash\ngit clone address\npip install nothing\necho hello > made\n```\n"
        "```python\nprint(open('made').read())\n# hello\nprint(1.5)\n# 1.2\n\n"
        "print('unsaid')\n```\n"
        "```bash\nfalse\ntrue\n```\n```python\nprint('later')\n# later\n```\n"
    )
    blocks = blocks_of(example)
    others = blocks_of("```python\nprint('x' in globals())\n# False\n```\n", "other.md")
    outcomes = run_documents([*blocks, *others], tmp_path)
    outcome = outcomes["README.md"]
    check(blocks[0], outcome)
    check(blocks[1], outcome)
    with pytest.raises(AssertionError, match=r"md:15 shows\s+1\.2\s+but prints\s+1\.5"):
        check(blocks[2], outcome)
    assert not agrees("", outcome.reached[18])
    for block in blocks[3:]:
        with pytest.raises(AssertionError, match="failed or was not reached"):
            check(block, outcome)
    assert "CalledProcessError" in outcome.failure
    check(others[0], outcomes["other.md"])


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("{'accuracy': 0.93}", "{'accuracy': 0.9259}", True),
        ("{'accuracy': 0.93}", "{'accuracy': 0.9431}", False),
        ("{'accuracy': 0.93}", "{'accuracy': 0.9361}", False),
        ("version 0.1.0", "version 0.2.0", False),
        ("12 tasks", "13 tasks", False),
        ("12 tasks", "12 heads", False),
        ("loss 1.2e-5 ... end", "loss 1.25e-5\nand so on\nend", True),
        ("-0.5", "0.5", False),
    ],
)
def test_numbers_agree_to_the_digits_given(shown: str, printed: str, expected: bool) -> None:
    assert agrees(shown, printed) is expected
