"""Lists of names as a word of the command line."""

import csv

__all__ = ["names_of"]


def names_of(option: str, words: str | None) -> list[str]:
    """Names that a word lists, with commas between them; a name that has a comma stands in double quotes.

    Args:
        option: Name of the option, for messages.
        words: Word of the command line; None: no names.

    Raises:
        ValueError: If a name is empty, as behind a comma at the end, or comes twice.

    Example:
        >>> names_of("--keep", 'price,"width, in mm"')
        ['price', 'width, in mm']
    """
    if words is None:
        return []
    names = [name.strip() for row in csv.reader([words], skipinitialspace=True) for name in row]
    if not names or not all(names):
        raise ValueError(
            f"{option} is {words!r}, of which a name is empty; give names with commas between them only, or leave it "
            "out."
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{option} names {twice[0]} twice; name it once.")
    return names
