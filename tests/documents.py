"""Code blocks of documents, run as a reader runs them, and compared with the output that the documents show.

The rules:

- The ``python`` blocks of a document share one fresh interpreter, ``bash`` blocks run between them with ``bash -e``,
  all in one empty folder. ``text`` blocks (pictures, output) are not run; no other language is allowed.
- What a top-level Python statement prints must stand right below it as ``# `` comment lines, or as a comment at its
  end. A statement that prints nothing may be followed by any comment. White space counts as one blank, ``...`` stands
  for anything, and a number with decimals is compared after rounding to the digits given.
- ``git clone``, ``cd metatx``, ``pip install`` and ``make TARGET`` set up a machine or a second checkout, and are not
  run; tests check that the make targets and the extras exist.
- A block that names ``METATX_DATA`` is skipped where that variable is not set.
"""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

__all__ = ["SETUP", "Block", "Outcome", "agrees", "blocks_of", "cells_of", "check", "needs_data", "run_documents"]

SECONDS = 900  # for all documents of a call, also on a busy machine
SETUP = re.compile(
    r"(?:git clone \S+(?: && cd metatx)?|cd metatx|make (?P<target>\w+)|(?:uv )?pip install (?P<packages>.+?))"
    r"(?:\s+#.*)?"
)
NUMBER = r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\.?\d)"  # not part of a version
MARK = "\x1e"  # the record separator: ends what one statement or one bash block printed
# Each document runs in a fork of a process that has imported what takes seconds.
RUNNER = """
import os
import runpy
import sys
import traceback

import metatx
import metatx.pool.pool
import metatx.task

for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        os.chdir(name)
        os.dup2(os.open("printed", os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open("errors", os.O_WRONLY | os.O_CREAT), 2)
        sys.path.insert(0, os.getcwd())
        code = 1
        try:
            runpy.run_path("document.py", run_name="__main__")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.waitpid(child, 0)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its document, language, text, and the line of the document on which the text starts."""

    document: str
    language: str
    text: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Statement:
    """A top-level statement that ends on ``line`` of its document, and the output that stands there."""

    line: int
    shown: str


@dataclass(frozen=True)
class Outcome:
    """Output of a document up to each marked line, and the last words of its program if it failed."""

    reached: Mapping[int, str]
    failure: str


def blocks_of(markdown: str, document: str = "README.md") -> list[Block]:
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    assert markdown.count("```") == 2 * len(fence.findall(markdown)), f"a fence of {document} is not closed"
    starts = ((m, markdown.count("\n", 0, m.start()) + 2) for m in fence.finditer(markdown))
    return [Block(document, m[1], m[2], line) for m, line in starts]


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


def run_documents(blocks: list[Block], folder: Path) -> dict[str, Outcome]:
    """Run the blocks of each document in a folder of its own, and return the outcome by document."""
    documents: dict[str, list[Block]] = {}
    for block in blocks:
        documents.setdefault(block.document, []).append(block)
    places = {name: folder / str(number) for number, name in enumerate(documents)}
    for name, place in places.items():
        place.mkdir()
        (place / "document.py").write_text(script_of(documents[name]))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {"PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "METATX_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", RUNNER, *map(str, places.values())]
    try:
        subprocess.run(command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, timeout=SECONDS, check=True)
        late = ""
    except subprocess.TimeoutExpired:
        late = f"the documents took more than {SECONDS} seconds"
    return {name: _outcome(place, late) for name, place in places.items()}


def _outcome(place: Path, late: str) -> Outcome:
    """Outcome of the document that ran in a folder."""
    if not (place / "printed").exists():
        return Outcome({}, late or "the document did not start")
    errors = (place / "errors").read_text()[-3000:]
    pieces = (place / "printed").read_text().split(MARK)
    reached = {int(line): text.lstrip("\n") for text, line in zip(pieces[::2], pieces[1::2], strict=False)}
    return Outcome(reached, f"{late}\n{errors}\n{pieces[-1]}")


def agrees(shown: str, printed: str) -> bool:
    """Return whether output is what the comment says, by the rules at the top of this file."""
    shown = " ".join(shown.split())
    printed = " ".join(printed.split())
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


def cells_of(path: Path) -> list[Block]:
    """Code cells of a notebook as blocks: what a cell ends with is printed, its output is the comment behind it.

    Lines that are Jupyter's, such as ``%pip``, are left out.
    """
    blocks = []
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        if cell["cell_type"] != "code":
            continue
        lines = [re.sub(r"%.*", "pass", line.rstrip("\n")) for line in cell["source"]]
        last = ast.parse("\n".join(lines)).body[-1]
        if isinstance(last, ast.Expr) and not ast.unparse(last).startswith("print("):
            lines[last.lineno - 1 :] = [f"print(repr({ast.unparse(last)}))"]
        shown = [line for output in cell["outputs"] for line in output_of(output).splitlines()]
        blocks.append(
            Block(path.name, "python", "\n".join([*lines, *(f"# {line}" for line in shown), ""]), 1000 * number)
        )
    return blocks


def output_of(output: Mapping[str, Any]) -> str:
    """Text of an output of a cell."""
    return "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])


def needs_data(block: Block) -> bool:
    return "METATX_DATA" in block.text and "METATX_DATA" not in os.environ


def check(block: Block, outcome: Outcome) -> None:
    """Fail where a block was not run to its end, or printed something else than it shows."""
    if block.language == "bash":
        assert block.line in outcome.reached, f"{block.place} failed or was not reached: {outcome.failure}"
        return
    for statement in statements_of(block):
        place = f"{block.document}:{statement.line}"
        assert statement.line in outcome.reached, f"{place} failed or was not reached: {outcome.failure}"
        printed = outcome.reached[statement.line]
        if printed.strip():
            assert agrees(statement.shown, printed), f"{place} shows\n{statement.shown}\nbut prints\n{printed}"
