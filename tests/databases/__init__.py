"""Databases as older versions of netkitd left them, each as tables with their rows.

`networks`: everything that is kept about networks, made with the FakeKernel of tests/unit.
`engine`: of a netkitd with containers, images, networks and access rules.
A BLOB of JSON is there as {"json": ...}, another BLOB as {"hex": ...}.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def tables(name: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of a file of this folder, by table."""
    return {t["table"]: t["rows"] for t in json.loads((FOLDER / name).read_text())}


def restore(name: str, path: Path, replaced: dict[str, str] | None = None) -> None:
    """Make a database of a file of this folder, with some of its text replaced."""
    text = (FOLDER / name).read_text()
    for old, new in (replaced or {}).items():
        text = text.replace(old, new)
    with closing(sqlite3.connect(path)) as db, db:
        for table in json.loads(text):
            db.execute(table["sql"])
            for row in table["rows"]:
                marks = ", ".join("?" * len(row))
                db.execute(
                    f"INSERT INTO {table['table']} ({', '.join(row)}) VALUES ({marks})",
                    [_value(v) for v in row.values()],
                )


def _value(v: Any) -> Any:
    match v:
        case {"json": doc}:
            return json.dumps(doc).encode()
        case {"hex": text}:
            return bytes.fromhex(text)
    return v
