"""Every code block of README.md runs, in the order it is read, and prints what README.md says.

The rules:

- ``python`` blocks share one fresh interpreter, ``bash`` blocks run between them with ``bash -e``,
  all in one empty folder, as a reader would do it. ``text`` blocks (pictures, output) are not run;
  no other language is allowed.
- What a top-level Python statement prints must stand right below it as ``# `` comment lines, or as
  a comment at its end. A statement that prints nothing may be followed by any comment. White space
  counts as one blank, ``...`` stands for anything, and a number with decimals is compared after
  rounding to the digits given.
- ``git clone``, ``cd metatx`` and ``make TARGET`` would set up a second checkout: of these only the
  existence of the make target is checked; CI runs the targets themselves.
- A block that names ``METATX_DATA`` is skipped where that variable is not set.
"""

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SECONDS = 900  # for the whole of README.md, also on a busy machine
SETUP = re.compile(r"(?:git clone \S+(?: && cd metatx)?|cd metatx|make (?P<target>\w+))(?:\s+#.*)?")
NUMBER = r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\.?\d)"  # not part of a version
MARK = "\x1e"  # the record separator: ends what one statement or one bash block printed


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, and the line of the file on which the text starts."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Statement:
    """A top-level statement that ends on ``line`` of its file, and the output that stands there."""

    line: int
    shown: str


def blocks_of(markdown: str) -> list[Block]:
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    assert markdown.count("```") == 2 * len(fence.findall(markdown)), "a fence is not closed"
    starts = ((m, markdown.count("\n", 0, m.start()) + 2) for m in fence.finditer(markdown))
    return [Block(m[1], m[2], line) for m, line in starts]


def statements_of(block: Block) -> list[Statement]:
    tokens = tokenize.generate_tokens(io.StringIO(block.text).readline)
    comments = {t.start: t.string[1:] for t in tokens if t.type == tokenize.COMMENT}
    at_end = {line: text for (line, column), text in comments.items() if column}
    alone = {line: text for (line, column), text in comments.items() if not column}
    statements = {}
    for node in ast.parse(block.text).body:
        end = node.end_lineno or node.lineno
        shown = [at_end[end]] if end in at_end else []
        line = end
        while not shown[:1] == [at_end.get(end)] and (line := line + 1) in alone:
            shown.append(alone[line])
        statements[end] = Statement(block.line + end - 1, "\n".join(shown))
    return list(statements.values())


def script_of(blocks: list[Block]) -> str:
    """One Python program of all blocks; it prints a mark after each statement and bash block."""
    lines = ["import subprocess as _subprocess"]
    for block in blocks:
        if block.language == "bash":
            kept = [line for line in block.text.splitlines() if not SETUP.fullmatch(line.strip())]
            command = ["bash", "-e", "-o", "pipefail", "-c", "\n".join(kept)]
            lines.append(f"_subprocess.run({command!r}, check=True)")
            lines.append(f"print({f'{MARK}{block.line}{MARK}'!r}, flush=True)")
        else:
            ends = {statement.line - block.line for statement in statements_of(block)}
            for number, line in enumerate(block.text.splitlines()):
                lines.append(line)
                if number in ends:
                    lines.append(f"print({f'{MARK}{block.line + number}{MARK}'!r}, flush=True)")
    return "\n".join(lines) + "\n"


def run_script(blocks: list[Block], folder: Path) -> tuple[dict[int, str], str]:
    """What was printed up to each marked line, and what the program said when it failed."""
    (folder / "readme.py").write_text(script_of(blocks))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    with (folder / "printed").open("w+") as printed, (folder / "errors").open("w+") as errors:
        try:
            done = subprocess.run(
                [sys.executable, "readme.py"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
                timeout=SECONDS,
            )
            failure = "" if done.returncode == 0 else f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            failure = f"README.md took more than {SECONDS} seconds"
        said = (folder / "errors").read_text()[-3000:]
        pieces = (folder / "printed").read_text().split(MARK)
    reached = {int(line): text.lstrip("\n") for text, line in zip(pieces[::2], pieces[1::2], strict=False)}
    return reached, failure and f"{failure}\n{said}\n{pieces[-1]}"


def agrees(shown: str, printed: str) -> bool:
    """Whether output is what the comment says, by the rules at the top of this file."""
    shown, printed = " ".join(shown.split()), " ".join(printed.split())
    parts = re.split(rf"({NUMBER}|\.\.\.)", shown)
    holes = {part: ".*" if part == "..." else f"({NUMBER})" for part in parts[1::2]}
    pattern = "".join(holes[p] if n % 2 else re.escape(p) for n, p in enumerate(parts))
    match = re.fullmatch(pattern, printed)
    if match is None:
        return False
    numbers = [Decimal(part) for part in parts[1::2] if part != "..."]
    for number, got in zip(numbers, match.groups(), strict=True):
        exponent = number.as_tuple().exponent
        unit = Decimal(10) ** exponent if isinstance(exponent, int) and exponent < 0 else Decimal(0)
        if abs(number - Decimal(got)) > unit / 2:
            return False
    return True


def needs_data(block: Block) -> bool:
    return "METATX_DATA" in block.text and "METATX_DATA" not in os.environ


BLOCKS = blocks_of(README.read_text()) if README.exists() else []
RUN = [block for block in BLOCKS if block.language in ("python", "bash")]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, str], str]:
    """README.md, run once."""
    runnable = [block for block in RUN if not needs_data(block)]
    return run_script(runnable, tmp_path_factory.mktemp("readme"))


def check(block: Block, reached: dict[int, str], failure: str) -> None:
    """Fail where a block was not run to its end, or printed something else than it shows."""
    if block.language == "bash":
        assert block.line in reached, f"README.md:{block.line} failed or was not reached: {failure}"
        return
    for statement in statements_of(block):
        place = f"README.md:{statement.line}"
        assert statement.line in reached, f"{place} failed or was not reached: {failure}"
        printed = reached[statement.line]
        if printed.strip():
            assert agrees(statement.shown, printed), f"{place} shows\n{statement.shown}\nbut prints\n{printed}"


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.language} at line {block.line}")
def test_block_runs_as_shown(block: Block, outcome: tuple[dict[int, str], str]) -> None:
    if needs_data(block):
        pytest.skip("METATX_DATA is not set")
    check(block, *outcome)


def test_readme_has_code_in_known_languages_only() -> None:
    assert RUN
    assert {block.language for block in BLOCKS} <= {"python", "bash", "text"}


def test_make_targets_of_readme_exist() -> None:
    lines = [line.strip() for block in RUN if block.language == "bash" for line in block.text.splitlines()]
    targets = {match["target"] for line in lines if (match := SETUP.fullmatch(line)) and match["target"]}
    assert targets >= {"quickstart", "test"}
    for target in sorted(targets):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_the_rules_catch_wrong_output_and_failing_blocks(tmp_path: Path) -> None:
    """The checker must see a wrong number, output that is not shown, and a failing command."""
    example = (
        "```python\nx = 2 / 3\nprint(f'{x} of', 12)  # 0.67 of 12\nprint('a  b')\n# a b\n```\n"
        "```bash\ngit clone address\necho hello > made\n```\n"
        "```python\nprint(open('made').read())\n# hello\nprint(1.5)\n# 1.2\n\n"
        "print('unsaid')\n```\n"
        "```bash\nfalse\ntrue\n```\n```python\nprint('later')\n# later\n```\n"
    )
    blocks = blocks_of(example)
    reached, failure = run_script(blocks, tmp_path)
    check(blocks[0], reached, failure)
    check(blocks[1], reached, failure)
    with pytest.raises(AssertionError, match=r"md:14 shows\s+1\.2\s+but prints\s+1\.5"):
        check(blocks[2], reached, failure)
    assert not agrees("", reached[17])
    for block in blocks[3:]:
        with pytest.raises(AssertionError, match="failed or was not reached"):
            check(block, reached, failure)
    assert "CalledProcessError" in failure


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
