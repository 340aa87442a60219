"""Construct the metrics listener.

What imports prometheus_client is imported only where there is one.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import netkit
from netkit.errors import InvalidSpec
from runtime import limits
from runtime.api.server.listen_address import TlsOptions
from runtime.api.server.listeners import Listener, open_all
from runtime.api.server.request_tally import RequestTally
from runtime.api.server.serve import Serving, serve
from runtime.daemon.bootstrap_containers import ContainerServices
from runtime.daemon.bootstrap_network import NetworkServices
from runtime.daemon.config import DaemonConfig
from runtime.metrics.address import check
from runtime.network.weave.service import WeaveService

if TYPE_CHECKING:
    from runtime.metrics.figures import Source

OVERLAY_SECONDS = 2.0  # for the overlay's process to answer; one that is late counts as down

Sources = Callable[[RequestTally], "Mapping[str, Source]"]

log = logging.getLogger("netkit.metrics")


def open_listeners(config: DaemonConfig) -> list[Listener]:
    """Of --metrics-addr; none without.  InvalidSpec; Conflict where the port is in use."""
    found = check(config.metrics_addr, insecure=config.insecure_metrics)
    if found is None:
        return []
    try:
        import prometheus_client  # noqa: F401  before anything is made
    except ImportError as error:
        raise InvalidSpec(f"--metrics-addr needs the package prometheus_client: {error}") from None
    return open_all([found], tls=TlsOptions(), insecure=config.insecure_metrics, environ={})


async def serve_metrics(
    listeners: Sequence[Listener], sources: Sources, tally: RequestTally
) -> Serving | None:
    """None without listeners."""
    if not listeners:
        return None
    from runtime.metrics.collection import Collection
    from runtime.metrics.server import PATH, make_app

    app = make_app(Collection(sources(tally)))
    serving = await serve(app, listeners, bound=limits.METRICS_CONNECTIONS)
    for listener in listeners:
        host, port, *_ = listener.sock.getsockname()
        log.info("metrics at http://%s:%s%s", f"[{host}]" if ":" in host else host, port, PATH)
    return serving


def build_sources(
    below: NetworkServices, above: ContainerServices, weave: WeaveService, runtime: str,
    tally: RequestTally,
) -> Mapping[str, Source]:  # fmt: skip
    """`runtime`: the path of the OCI runtime."""
    from runtime.metrics import changes, engine
    from runtime.metrics.networks import NetworkFigures
    from runtime.metrics.overlay import overlay

    networks = NetworkFigures(below.networks, below.links)
    firewall = below.firewall
    facts = {
        "version": netkit.__version__,
        "python": platform.python_version(),
        "kernel": os.uname().release,
        "runtime": os.path.basename(runtime),
        "firewall": firewall.backend or "none",
    }
    return {
        "build": partial(engine.build, facts),
        "containers": partial(engine.containers, above.states),
        "objects": partial(engine.objects, above.images.count, above.volumes.count),
        "api": partial(engine.requests, tally),
        "networks": networks.networks,
        "addresses": networks.addresses,
        "traffic": networks.traffic,
        "changes": partial(
            changes.changes, below.worker.statistics.counts, lambda: below.worker.waiting
        ),
        "drift": partial(changes.drift, below.guards),
        "overlay": partial(overlay, partial(weave.status, OVERLAY_SECONDS)),
    }
