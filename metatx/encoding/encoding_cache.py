"""Cache of encoded samples on disk, and the part of its key that depends on tokenizers and heads."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from metatx.component import Component
from metatx.data.content_hash import Content, options_of
from metatx.disk.cache import read_cached, write_cached
from metatx.encoding.sample_store import Block, Column

if TYPE_CHECKING:
    from metatx.tokenizer import Tokenizer

__all__ = ["EncodingCache", "add_components", "key_of"]


def add_components(
    content: Content, *components: tuple[Component, tuple[str, ...] | None], code: Sequence[type] = ()
) -> None:
    """Add everything but the weights that decides what components compute: names, options and source code.

    Args:
        content: Hash to add to.
        components: Tokenizers, heads and bridges, each with the names of the options that matter; None for all options.
            Options at their defaults count too, so that a changed default changes the hash.
        code: Further classes whose source code counts.

    Raises:
        TypeError: If an option is no JSON value, or a class has no source file.
        OSError: If a source file cannot be read.
    """
    for component, names in components:
        content.add([component.name, options_of(component, names)])
    # The tokenizers of several inputs are modules of theirs.
    parts = [part for component, _ in components for part in component.modules() if isinstance(part, Component)]
    content.add_code(*map(type, parts), *code)


def key_of(
    facts: list[Any],
    components: Sequence[tuple[Component, tuple[str, ...] | None]],
    modules: Sequence[nn.Module],
    code: Sequence[type] = (),
) -> str | None:
    """Hash of all that decides features; None if something cannot be hashed, so that nothing may be cached.

    Args:
        facts: Values, such as fingerprints, as ``Content.add`` takes them.
        components: The arguments of ``add_components``.
        modules: Modules whose weights and buffers count.
        code: The argument of ``add_components``.
    """
    content = Content()
    try:
        content.add(facts)
        add_components(content, *components, code=code)
    except (TypeError, OSError):
        return None
    for module in modules:
        content.add_tensors(module.state_dict())
    return content.hexdigest()


class EncodingCache:
    """Cache of the encoded samples of one split, on disk.

    The file's name is a hash of everything that decides them: the content of the samples and of the files that they
    name (see ``Content``); the tokenizer's name, buffers and options, defaults included; and the source code of this
    package and of the tokenizer.

    Args:
        tokenizer: Tokenizer that encodes the samples.
        samples: Raw samples. They are cached if they are files, numbers, texts, arrays, or dicts, lists or dataclasses
            of these, but not if they are files that may name further files.
        cache_key: Shape of the backbone whose stem the tokenizer starts from.
    """

    def __init__(self, tokenizer: "Tokenizer", samples: Sequence[Any], cache_key: str) -> None:
        self.samples = samples
        content = Content(tokenizer.suffixes, tokenizer.external_refs)
        self.name: str | None = None
        try:
            content.add([cache_key])
            add_components(content, (tokenizer, None))
            content.add_tensors(dict(tokenizer.named_buffers()))
            for sample in samples:
                content.add(sample)
        except (TypeError, OSError):
            return
        self.name = f"encoded/{content.hexdigest()}"

    def load(self) -> Iterator[dict[str, Tensor]] | None:
        """Iterator over all encoded samples; None if they are not in the cache."""
        kept = None if self.name is None else read_cached(self.name)
        if kept is None:
            return None
        return _samples(kept)

    def store(self, blocks: Sequence[Block]) -> None:
        """Write all encoded samples to the cache."""
        if self.name is None:
            return
        tensors: dict[str, Tensor] = {}
        for number, block in enumerate(blocks):
            for name, column in block.fields.items():
                tensors[f"{number}.values.{name}"] = column.values
                if column.shapes is not None:
                    tensors[f"{number}.shapes.{name}"] = column.shapes
        write_cached(self.name, tensors)


def _samples(kept: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    blocks: dict[int, dict[str, Column]] = {}
    for key, values in kept.items():
        number, part, name = key.split(".", 2)
        if part == "values":
            blocks.setdefault(int(number), {})[name] = Column(values, kept.get(f"{number}.shapes.{name}"))
    for _, fields in sorted(blocks.items()):
        for at in range(len(next(iter(fields.values())))):
            yield {name: column[at] for name, column in fields.items()}
