"""Extension of Python-Markdown that fills in what pages take from the code, from results.md and from files at the top.

A line such as ``<!-- reads: audio -->`` of a page is replaced by what the function of that name returns. So no page
repeats by hand what the code says.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from metatx.registry import lookup, summary

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^<!-- (\w+): (.+?) -->$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")
TITLES = {"point_cloud": "point cloud", "time_series": "time series", "xray": "X-ray", "imu": "IMU"}  # in results.md


class Filling(Preprocessor):
    """Preprocessor that replaces the marks of a page."""

    def run(self, lines: list[str]) -> list[str]:
        return MARK.sub(lambda mark: FILLERS[mark[1]](mark[2]), "\n".join(lines)).split("\n")


class FillingExtension(Extension):
    """Extension that runs before all others."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.preprocessors.register(Filling(md), "filling", 100)


def makeExtension(**_: Any) -> FillingExtension:  # noqa: N802
    """Make the extension, under the name by which Python-Markdown asks for it."""
    return FillingExtension()


def file(name: str) -> str:
    """Text of a file of the repository, its links led to the pages that show the same."""
    text = (ROOT / name).read_text()
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return LINK.sub(lambda link: f"]({_page(link[1])})", text)


def _page(target: str) -> str:
    """Page that shows the file of the repository that a link names."""
    if target == "metatx/nano/README.md":
        return "nano.md"
    return target.removeprefix("docs/") if "/" in target else target.lower()


def notebook(name: str) -> str:
    """Cells of a notebook as markdown, code and output."""
    cells = json.loads((ROOT / "docs" / name).read_text())["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            lines = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
            parts.append(f"```text\n{''.join(lines).rstrip()}\n```")
    return "\n\n".join(parts)


def tables(markdown: str) -> Iterator[list[str]]:
    """Tables of a page, each as its lines."""
    for found in re.finditer(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        yield found[0].splitlines()


def numbers(modality: str) -> str:
    """Rows of a modality from the tables of results.md."""
    start = f"| {TITLES.get(modality, modality)} · "
    parts = []
    for head, rule, *rows in tables((ROOT / "docs/results.md").read_text()):
        chosen = [row for row in rows if row.lower().startswith(start.lower())]
        if chosen:
            parts.append("\n".join([head, rule, *chosen]))
    if not parts:
        raise ValueError(f"results.md has no row of {modality}; a row starts with {start!r}.")
    note = "[Results](../results.md) explains the columns: test split, frozen backbone, seeds in parentheses."
    return "\n\n".join([*parts, note])


def reads(modality: str) -> str:
    """Facts of a tokenizer, and the recipes of its modality."""
    tokenizer = lookup("tokenizers", modality)
    rows = []
    if tokenizer.suffixes:
        rows.append(("one sample a file", _listed(tokenizer.suffixes)))
    if tokenizer.readers:
        rows.append(("many samples a file", _listed(tokenizer.readers)))
    if tokenizer.default_head:
        rows.append(("head, where the target does not say", f"`{tokenizer.default_head}`"))
    classical = {"linear": "a linear model", "boosting": "gradient boosting", "words": "a linear model on TF-IDF"}
    rows.append(("classical baseline", f"{classical[tokenizer.classical]}, on features of its own"))
    recipes = sorted((ROOT / "recipes").glob(f"{modality}_*.py"))
    for path in recipes:
        about = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        rows.append((f"`recipes/{path.name}`", about))
    return "\n".join(["| in short | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def overview(kind: str) -> str:
    """Table of the components of a kind that ship: name, and what each is."""
    shown = sorted(path.stem for path in (ROOT / kind).glob("*.py"))
    return "\n".join(
        ["| modality | tokens |", "|---|---|", *(f"| [{name}]({name}.md) | {summary(kind, name)} |" for name in shown)]
    )


def options(component: str) -> str:
    """Docstring of a tokenizer, head, fusion, bridge or objective, ``tokenizers.audio``: what it does, its options."""
    kind, name = component.split(".")
    shown = lookup(kind, name)  # type: ignore[arg-type]
    settings = ["members: false", "show_root_heading: false", "show_root_toc_entry: false", "show_bases: false"]
    lines = [f"::: metatx.{kind}.{name}.{shown.__name__}", "    options:", *(f"      {line}" for line in settings)]
    return "\n".join(lines)


def _listed(names: Any) -> str:
    return " ".join(f"`{name}`" for name in names)


FILLERS = {
    "file": file,
    "notebook": notebook,
    "numbers": numbers,
    "overview": overview,
    "reads": reads,
    "options": options,
}
