"""The example in the docstring of every public name, run as it stands; ``import metatx`` goes before each."""

import doctest

import pytest

import metatx


@pytest.mark.parametrize("name", metatx.__all__)
def test_the_example_of_a_public_name_prints_what_it_shows(name: str) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(getattr(metatx, name), name, globs={"metatx": metatx})
    assert example.examples, f"{name} has no example in its docstring"
    results: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(example, out=results.append)
    assert not failed, "".join(results)
