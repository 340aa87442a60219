"""The walks of docs/design.md: the files exist, in at most fifteen, with the functions named."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.places import ROOT

LONGEST = 15  # files one has to open to follow a published port from the API to the kernel
PATH = re.compile(r"`((?:netkit|runtime|plugins)/[\w/]+\.py)`")
FUNCTION = re.compile(r"^`(\w+)`[:,]")


def walk(title: str) -> Iterator[tuple[list[str], str]]:
    """Files and explanation of each row of the table below `title`."""
    text = (ROOT / "docs/design.md").read_text().split(f"**{title}**")[1]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    for line in table[0].splitlines()[2:]:
        files, what = line.strip("|").split("|")
        yield PATH.findall(files), what.strip()


@pytest.mark.parametrize("title", ["A published port's way", "A container start's way"])
def test_the_files_of_a_walk_exist_with_the_functions_named(title: str) -> None:
    for files, what in walk(title):
        assert files
        for file in files:
            assert (ROOT / file).is_file(), file
        if found := FUNCTION.match(what):
            name = re.compile(rf"\bdef {found[1]}\(")
            assert any(name.search((ROOT / f).read_text()) for f in files), (files, found[1])


def test_a_published_port_is_followed_in_fifteen_files() -> None:
    files = {file for row, _ in walk("A published port's way") for file in row}
    assert len(files) <= LONGEST
