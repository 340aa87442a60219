"""The files of the page, which are all there are: what is not listed here is not served."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

FOLDERS = (Path(__file__).parent / "static", Path(__file__).parent / "vendor")
TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    path: Path
    type: str
    packed: bool  # gzip, under a name without .gz

    def read(self, *, gzipped: bool) -> bytes:
        """As it is sent to a client that reads gzip, or not."""
        data = self.path.read_bytes()
        return gzip.decompress(data) if self.packed and not gzipped else data


def files() -> dict[str, File]:
    """By the name that the page has for it."""
    found = {}
    for path in (path for folder in FOLDERS for path in sorted(folder.iterdir())):
        packed = path.suffix == ".gz"
        name = path.name.removesuffix(".gz")
        if kind := TYPES.get(Path(name).suffix):
            found[name] = File(path=path, type=kind, packed=packed)
    return found
