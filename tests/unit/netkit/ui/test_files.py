"""The files of the page: each one that is named is there, and nothing of elsewhere."""

from __future__ import annotations

import re

from netkit.ui.files import FOLDERS, files

STATIC = FOLDERS[0]
NAMED = re.compile(r"""(?:\bfrom |\bimport[ (]|src=|href=|Worker\()["']([^"'#?]+)["'#?]""")


def test_what_pages_and_modules_name_is_served() -> None:
    found = files()
    for path in STATIC.iterdir():
        if path.suffix in {".html", ".mjs"}:
            for name in NAMED.findall(path.read_text()):
                assert name.removeprefix("./") in found, f"{path.name}: {name}"


def test_nothing_is_of_elsewhere() -> None:
    """Addresses of the web would be requests that leave this machine; SVG's namespace is a name."""
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|[\"'(]//", text), path.name


def test_pages_have_neither_scripts_nor_styles_within() -> None:
    """Their policy forbids them: they would be without effect."""
    for path in STATIC.glob("*.html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", path.read_text())
