"""How records are kept in a database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from plugins.weave import record as recording
from plugins.weave.record import Record
from plugins.weave.wire import WireError

RECORD_TABLE: Final = "weave_record"
"""Rows: origin, kind (one byte), key -> the record."""
HEAD_TABLE: Final = "weave_head"
"""Rows: origin -> its newest record, if that is a deletion."""


def row(record: Record) -> bytes:
    """The key of a record's row."""
    return record.origin + bytes((record.kind,)) + record.key


def readable(blobs: Iterable[bytes]) -> list[Record]:
    """The records, in the order of their versions; rows that are damaged are passed over."""
    return sorted(_readable(blobs), key=lambda record: record.version)


def _readable(blobs: Iterable[bytes]) -> Iterator[Record]:
    for blob in blobs:
        try:
            yield recording.decode(blob)
        except WireError:
            continue
