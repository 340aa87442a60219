"""What is read while it comes is whole, at whatever moment it is read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from runtime.cancellation import Cancel
from runtime.images.blobs import Blobs, BlobWriter
from runtime.registry.spool import Spool


def test_what_is_still_in_a_buffer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that comes between a write and its flush once took that for the end."""
    reached, go_on = threading.Event(), threading.Event()
    flush = BlobWriter.flush

    def slow(blob: BlobWriter) -> None:
        reached.set()
        go_on.wait(5)
        flush(blob)

    monkeypatch.setattr(BlobWriter, "flush", slow)
    found: list[bytes] = []
    with Blobs(tmp_path).writer() as blob, Spool(blob, Cancel()) as spool:
        writer = threading.Thread(target=spool.write, args=(b"content",))
        writer.start()
        assert reached.wait(5)
        reader = threading.Thread(target=lambda: found.append(spool.read(100)))
        reader.start()
        reader.join(0.1)
        assert not found  # not b"", which means the end
        go_on.set()
        writer.join(5)
        reader.join(5)
        spool.close()
    assert found == [b"content"]
