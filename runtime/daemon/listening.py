"""What the daemon listens on: addresses of the API and of metrics, sockets for dockerd."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.api.server.listen_address import TlsOptions, open_to_all, parse
from runtime.api.server.listeners import Listener, open_all, tls_context
from runtime.daemon.bootstrap_docker import open_sockets
from runtime.daemon.bootstrap_metrics import open_listeners
from runtime.daemon.config import DaemonConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    api: Sequence[Listener]
    metrics: Sequence[Listener]
    plugin: Sequence[Listener]
    tls: ssl.SSLContext | None  # of the API
    warnings: Sequence[str]  # of addresses at which the network reaches the API


@contextmanager
def listening(config: DaemonConfig) -> Iterator[Listening]:
    """Open all or none; closed at the end.  InvalidSpec, or Conflict for an address in use.

    Clients that connect before they are served wait in the backlog.
    """
    tls = TlsOptions(
        enabled=config.tls,
        verify=config.tlsverify,
        ca=_path(config.tlscacert),
        cert=_path(config.tlscert),
        key=_path(config.tlskey),
    )
    default = config.run / "netkit.sock"
    addresses = [parse(text, default=default, tls=tls.on) for text in config.listeners]
    context = tls_context(tls)
    with ExitStack() as opened:
        api = open_all(
            addresses,
            tls=tls,
            insecure=config.insecure_tcp,
            environ=os.environ,
            group=config.group,
        )
        _close_at_end(opened, api)
        metrics = open_listeners(config)
        _close_at_end(opened, metrics)
        plugin = open_sockets(config.plugin_folder)
        _close_at_end(opened, plugin)
        warnings = open_to_all(addresses, tls)
        yield Listening(api=api, metrics=metrics, plugin=plugin, tls=context, warnings=warnings)


def _close_at_end(opened: ExitStack, listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        opened.callback(listener.close)


def _path(text: str) -> Path | None:
    return Path(text) if text else None
