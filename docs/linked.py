"""Extensions of griffe, which reads the docstrings: for folders linked into the package, and for examples."""

import re
from typing import Any

import griffe

FOLDERS = ("tokenizers", "heads")


class LinkedFolders(griffe.Extension):
    """Modules of ``metatx.tokenizers`` and ``metatx.heads``, which griffe leaves out."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Add the modules once the package is loaded."""
        if pkg.name != "metatx":
            return
        for name in FOLDERS:
            place = pkg.filepath.parent / name  # type: ignore[union-attr]
            folder = griffe.Module(name, filepath=place / "__init__.py", parent=pkg)
            pkg.set_member(name, folder)
            for path in sorted(place.glob("*.py")):
                code = path.read_text()
                loader.lines_collection[path] = code.splitlines()
                module = griffe.visit(
                    path.stem,
                    filepath=path,
                    code=code,
                    parent=folder,
                    extensions=loader.extensions,
                    lines_collection=loader.lines_collection,
                    modules_collection=loader.modules_collection,
                )
                folder.set_member(path.stem, module)


class Examples(griffe.Extension):
    """Code of the sections called ``Example``; griffe knows ``Examples`` only."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
