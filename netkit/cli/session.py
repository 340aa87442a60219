"""The context of a command: the daemon, and the style of its output."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property

from netkit.client.endpoint import DEFAULT_HOST, Endpoint, parse_host
from netkit.client.engine import Engine


@dataclass
class Session:
    """One run of `netkit`; the daemon is asked for only when a command needs it."""

    endpoint: Endpoint = field(default_factory=lambda: parse_host(DEFAULT_HOST, None))
    debug: bool = False

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.endpoint)

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
