"""The context of a command: the daemon, and the style of its output."""

from __future__ import annotations

import os
import sys
import time

from netkit.client.endpoint import DEFAULT_HOST, Endpoint, parse_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.client.engine import Engine


class Session:
    """One run of `netkit`; the daemon is asked for only when a command needs it."""

    def __init__(self, endpoint: Endpoint | None = None, debug: bool = False) -> None:
        self.endpoint = endpoint or parse_host(DEFAULT_HOST, None)
        self.debug = debug
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            from netkit.client.engine import Engine

            self._engine = Engine(self.endpoint)
        return self._engine

    def close(self) -> None:
        """Close connections to the daemon, if there are any."""
        if self._engine is not None:
            self._engine.close()

    @property
    def now(self) -> float:
        return time.time()

    @property
    def colour(self) -> bool:
        """Standard output is a terminal that wants colours."""
        return (
            sys.stdout.isatty()
            and "NO_COLOR" not in os.environ
            and os.environ.get("TERM") != "dumb"
        )

    @property
    def columns(self) -> int:
        """Width of the terminal; 80 when there is none."""
        try:
            return os.get_terminal_size(1).columns or 80
        except OSError:
            return 80
