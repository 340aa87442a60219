"""Serve the calls of dockerd: from a method and a body to a status and a body.

Errors of network drivers have status 200 and {"Err": text}, which dockerd shows as it is; those of
an IPAM status 500, without which dockerd 20.10 loses the text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from netkit.errors import NetkitError, disk_fault
from netkit.frontends.libnetwork.endpoints import DockerEndpoints
from netkit.frontends.libnetwork.messages import (
    CreateEndpoint,
    CreateNetwork,
    EndpointRequest,
    Join,
    NetworkRequest,
    ReleaseAddress,
    ReleasePool,
    RequestAddress,
    RequestPool,
    decode,
)
from netkit.frontends.libnetwork.networks import DockerNetworks
from netkit.frontends.libnetwork.pools import CAPABILITIES, SPACES, Pools
from netkit.threads import notes

JSON = "application/vnd.docker.plugins.v1.2+json"
IPAM = "netkit"  # the name of the IPAM plugin; drivers are netkit-NAME
ACTIVATE = "/Plugin.Activate"
NETWORK, ADDRESS = "/NetworkDriver.", "/IpamDriver."

log = logging.getLogger("netkit.docker")
Reply = Mapping[str, object]
Handler = Callable[[bytes], Reply]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """Thread-safe.  `call` blocks as long as the operation takes."""

    networks: DockerNetworks
    endpoints: DockerEndpoints
    pools: Pools
    activated: Callable[[], None] = lambda: None  # dockerd started
    _ipam: Mapping[str, Handler] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ipam", self._of_ipam())

    def call(self, driver: str, path: str, body: bytes) -> Answer:
        """Answer one call to the plugin of a network driver, or of the IPAM: driver ""."""
        if path == ACTIVATE:
            self.activated()
            return _answer({"Implements": ["NetworkDriver" if driver else "IpamDriver"]})
        handler = (self._of_driver(driver) if driver else self._ipam).get(path)
        if handler is None:  # dockerd takes this for "not implemented"
            return _answer({"Err": f"the plugin has no {path[:64]}"}, 404)
        try:
            return _answer(handler(body))
        except NetkitError as error:
            for note in notes(error):
                log.warning("%s failed: %s; %s", path, error, note)
            return _failed(path, driver, str(error))
        except Exception as error:
            if (fault := disk_fault(error)) is not None:
                return _failed(path, driver, str(fault))
            log.exception("%s failed", path)
            return _failed(path, driver, f"internal error: {type(error).__name__}: {error}")

    def _of_driver(self, driver: str) -> dict[str, Handler]:
        n, e = self.networks, self.endpoints
        calls: dict[str, Handler] = {
            "GetCapabilities": lambda _: {"Scope": "local", "ConnectivityScope": "local"},
            "CreateNetwork": lambda b: n.create(driver, decode(b, CreateNetwork)),
            "DeleteNetwork": lambda b: n.delete(decode(b, NetworkRequest)),
            "CreateEndpoint": lambda b: e.create(decode(b, CreateEndpoint)),
            "DeleteEndpoint": lambda b: e.delete(decode(b, EndpointRequest)),
            "EndpointOperInfo": lambda b: e.info(decode(b, EndpointRequest)),
            "Join": lambda b: e.join(decode(b, Join)),
            "Leave": lambda b: e.unpublish(decode(b, EndpointRequest)),
            "ProgramExternalConnectivity": lambda b: e.publish(decode(b, EndpointRequest)),
            "RevokeExternalConnectivity": lambda b: e.unpublish(decode(b, EndpointRequest)),
            "DiscoverNew": lambda _: {},  # nodes of a swarm: netkit has a cluster of its own
            "DiscoverDelete": lambda _: {},
        }
        return {NETWORK + name: call for name, call in calls.items()}

    def _of_ipam(self) -> dict[str, Handler]:
        p = self.pools
        calls: dict[str, Handler] = {
            "GetCapabilities": lambda _: CAPABILITIES,
            "GetDefaultAddressSpaces": lambda _: SPACES,
            "RequestPool": lambda b: p.request_pool(decode(b, RequestPool)),
            "ReleasePool": lambda b: p.release_pool(decode(b, ReleasePool)),
            "RequestAddress": lambda b: p.request_address(decode(b, RequestAddress)),
            "ReleaseAddress": lambda b: p.release_address(decode(b, ReleaseAddress)),
        }
        return {ADDRESS + name: call for name, call in calls.items()}


def _answer(reply: Reply, status: int = 200) -> Answer:
    return Answer(status, msgspec.json.encode(reply) + b"\n")


def _failed(path: str, driver: str, text: str) -> Answer:
    # A text from outside may hold what JSON cannot.
    text = text.encode(errors="backslashreplace").decode()
    log.info("%s: %s", path, text)
    return _answer({"Err": text}, 200) if driver else _answer({"Err": text, "Error": text}, 500)
