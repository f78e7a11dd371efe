"""Rules of the house: imports run downwards, one statement a line, docstrings that begin with what they are about."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Rooms from the bottom to the top; those of one line do not import one another in a circle.
ORDER = (
    "errors annotations process progress files exact json_schema values registry sequence padded places examples "
    "seeding settings spec",
    "reading",
    "data",
    "disk",
    "component tokenizer head",
    "backbone",
    "adapters",
    "layers",
    "metrics",
    "series",
    "baselines",
    "writing",
    "fusion bridge",
    "tokenizers heads fusions bridges",
    "encoding",
    "inputs continuation",
    "model",
    "training",
    "storage retrieval pretraining objective objectives",
    "inference",
    "task",
    "evaluation explaining exporting",
    "pool",
    "serving cli sklearn",
    "testing",
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms.split()}
VAGUE = re.compile(r"(Of|What|Whether|That|As|By|So)\b")


def modules() -> dict[str, Path]:
    """Paths of all modules by their names; the facade ``metatx`` and ``python -m metatx`` are left out."""
    paths: dict[str, Path] = {}
    for folder in ("metatx", "tokenizers", "heads"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = list(path.relative_to(ROOT).with_suffix("").parts)
            if folder == "metatx" and names[1] in ("tokenizers", "heads", "__init__", "__main__"):
                continue  # links to the two other folders
            if names[-1] == "__init__":
                names.pop()
            paths[".".join(names if folder == "metatx" else ["metatx", *names])] = path
    return paths


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names and lines of metatx's own modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in whole]
        yield from ((name, node.lineno) for name in names if name in MODULES)


IMPORTS = {name: {target: line for target, line in imported(tree) if target != name} for name, tree in TREES.items()}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected groups of more than one node, by removal of what leads nowhere."""
    left = {name: set(targets) for name, targets in arrows.items()}
    reach = {name: targets & left.keys() for name, targets in left.items()}
    while True:
        wider = {name: set().union(targets, *(reach[target] for target in targets)) for name, targets in reach.items()}
        if wider == reach:
            break
        reach = wider
    groups = {tuple(sorted(t for t in reach[name] if name in reach[t])) for name in reach if name in reach[name]}
    return [list(group) for group in sorted(groups)]


def room(name: str) -> str:
    return name.split(".")[1]


def where(name: str, line: int) -> str:
    return f"{MODULES[name].relative_to(ROOT)}:{line}"


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Imports inside functions and under ``TYPE_CHECKING`` count: they are knowledge too."""
    assert circles({name: set(targets) for name, targets in IMPORTS.items()}) == []


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(name) for name in MODULES} <= LEVEL.keys()


@pytest.mark.parametrize("name", sorted({room(name) for name in MODULES}))
def test_a_room_imports_only_from_rooms_below_it(name: str) -> None:
    upwards = [
        f"{where(source, line)} imports {target}"
        for source, targets in IMPORTS.items()
        for target, line in targets.items()
        if room(source) == name and LEVEL[room(target)] > LEVEL[name]
    ]
    assert upwards == []


def packed(tree: ast.Module) -> Iterator[int]:
    """Lines of assignments that pack several statements, ``a, b = x, y``; a swap is none."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue
        for target in node.targets:
            if not isinstance(target, ast.Tuple) or len(node.value.elts) < 2:
                continue
            if {ast.unparse(e) for e in target.elts} != {ast.unparse(e) for e in node.value.elts}:
                yield node.lineno


def test_packed_assignments_are_told_from_swaps() -> None:
    assert list(packed(ast.parse("a, b = 1, 2\na, b = b, a\na, b = f()\na = 1, 2"))) == [1]


def test_one_statement_a_line() -> None:
    assert [where(name, line) for name, tree in TREES.items() for line in packed(tree)] == []


def vague(tree: ast.Module) -> Iterator[int]:
    """Lines where a docstring, or the text of one of its fields, begins with a word that names nothing.

    Docstrings of what begins with an underscore are left out.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is None or getattr(node, "name", "").startswith("_"):
            continue
        line = node.body[0].lineno
        if VAGUE.match(text):
            yield line
        for number, words in enumerate(text.splitlines()):
            field = re.match(r" +[\w, ]+: (?=\S)", words)
            if field and VAGUE.match(words, field.end()):
                yield line + number


def test_vague_beginnings_are_seen() -> None:
    code = 'def f(a):\n    """Of a.\n\n    Args:\n        a: What it is.\n        b: The number, by name.\n    """'
    assert list(vague(ast.parse(code))) == [2, 5]
    assert list(vague(ast.parse('def _f(a):\n    """Of a."""'))) == []


def test_docstrings_begin_with_what_they_are_about() -> None:
    assert [where(name, line) for name, tree in TREES.items() for line in vague(tree)] == []


def modules_named(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that the imports of a file hold, of modules and of what is in them, and their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            yield from ((f"{module}{alias.name}", node.lineno) for alias in node.names)


def test_test_files_do_not_import_one_another() -> None:
    """Names that several test files share stand in a plain module beside them, such as ``tests/samples.py``."""
    places = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name, line in modules_named(ast.parse(path.read_text()))
        if re.match(r"tests\.(\w+\.)*test_", name)
    ]
    assert places == []
