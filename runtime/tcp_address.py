"""An address at which the daemon listens: its API, its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Reachable from this machine only; a name other than localhost is not trusted to be."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"
