"""The libraries of the page are as `assets.json` records them, for `script/ui-assets`."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

from netkit.ui.files import FOLDERS

VENDOR = FOLDERS[1]
OWN = {"README.md", "assets.json"}


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def test_each_file_is_as_it_was_published() -> None:
    recorded = {
        entry["name"]: entry["sha256"]
        for package in json.loads((VENDOR / "assets.json").read_text())
        for entry in package["files"]
    }
    there = {path.name for path in VENDOR.iterdir()} - OWN
    assert there == set(recorded)
    sums = {name: hashlib.sha256(unpacked(VENDOR / name)).hexdigest() for name in there}
    assert sums == recorded


def test_each_package_has_a_pinned_version_and_its_licence_beside_it() -> None:
    readme = (VENDOR / "README.md").read_text()
    for package in json.loads((VENDOR / "assets.json").read_text()):
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        names = [entry["name"] for entry in package["files"]]
        licences = [name for name in names if name.endswith(".LICENSE")]
        assert len(licences) == 1
        assert f"({licences[0]})" in readme
        assert package["package"] in readme
