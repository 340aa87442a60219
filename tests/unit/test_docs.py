"""Targets of links in the documentation exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages import CLONE

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#([\w.-]+))?\)")
# Of the papers that netkit was begun with; a reader of the repository has none of them.
ABSENT = re.compile(r"\bseed\.md\b|`(?:sketch|facts)/|\(Seed\b|\bthe seed'?s?\b(?! (?:of|makes))")
FOLDERS = ("docs", "labs", "script", "findings")
PAGES = [*CLONE.glob("*.md"), *(p for folder in FOLDERS for p in (CLONE / folder).rglob("*.md"))]


def links(page: Path) -> Iterator[tuple[str, str]]:
    """(file, heading) of each link within the repository."""
    for found in LINK.finditer(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        yield found[1], found[2] or ""


def headings(page: Path) -> set[str]:
    """As the anchors of a page that is shown: small letters, dashes for blanks."""
    words = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", w.lower()).replace(" ", "-") for w in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CLONE)))
def test_links_lead_somewhere(page: Path) -> None:
    for name, heading in links(page):
        target = (page.parent / name).resolve()
        assert target.exists(), name
        assert not heading or heading in headings(target), f"{name}#{heading}"


def test_no_page_speaks_of_papers_that_a_reader_does_not_have() -> None:
    found = {str(page): ABSENT.search(page.read_text()) for page in PAGES}
    assert {page: match[0] for page, match in found.items() if match} == {}
    assert ABSENT.search("by hand, as the seed does it")
    assert ABSENT.search("(Seed: chapter 12)")
