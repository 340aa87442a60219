"""A blob that is unpacked while it comes: its end is shown only once its digest is verified."""

from __future__ import annotations

import threading
from typing import Self

from runtime.cancellation import LOOK, Cancel, Cancelled
from runtime.images.blobs import BlobWriter


class Spool:
    """One thread writes, another reads.  A context manager: left early, reads raise Cancelled.

    Who reads to the end has read a blob that is stored: `read` gives b"" after `commit` only.
    """

    def __init__(self, blob: BlobWriter, cancel: Cancel) -> None:
        self._blob, self._cancel = blob, cancel
        self._file = blob.reader()
        self._news = threading.Condition()
        self._read = self._shown = 0  # bytes; those shown are in the file, not in a buffer
        self._stored = self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._left = True
            self._news.notify_all()

    def close(self) -> None:
        """No reader is left."""
        self._file.close()

    @property
    def size(self) -> int:
        return self._blob.size

    @property
    def stored(self) -> bool:
        return self._stored

    def write(self, data: bytes) -> int:
        done = self._blob.write(data)
        self._blob.flush()
        with self._news:
            self._shown = self._blob.size
            self._news.notify_all()
        return done

    def commit(self, expected: str = "") -> str:
        digest = self._blob.commit(expected)
        with self._news:
            self._stored = True
            self._news.notify_all()
        return digest

    def read(self, size: int = -1, /) -> bytes:
        """What has come; waits for it, and at the end for the verification."""
        with self._news:
            while self._read >= self._shown and not self._stored:
                self._cancel.check()
                if self._left:
                    raise Cancelled("the download has failed")
                self._news.wait(LOOK)
        data = self._file.read(size)
        self._read += len(data)
        return data
