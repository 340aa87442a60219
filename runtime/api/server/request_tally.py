"""Count answers of the API, for metrics."""

from __future__ import annotations

from collections import Counter

from aiohttp import hdrs

METHODS = frozenset({
    hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST, hdrs.METH_PUT, hdrs.METH_DELETE,
    hdrs.METH_OPTIONS,
})  # fmt: skip
OTHER = "other"  # a method that is none of these; a client may send any word
ABORTED = "aborted"  # the connection ended before a status was sent


class RequestTally:
    """Written by the event loop alone."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self.open = 0  # requests that are being answered, streams included

    def begin(self) -> None:
        self.open += 1

    def end(self, method: str, status: int | None) -> None:
        """`status`: of HTTP; None: none was sent."""
        self.open -= 1
        which = ABORTED if status is None else f"{status // 100}xx"
        self._counts[method if method in METHODS else OTHER, which] += 1

    def counts(self) -> dict[tuple[str, str], int]:
        """By method and class of the status, as in ("GET", "2xx").  From any thread."""
        return dict(self._counts)
