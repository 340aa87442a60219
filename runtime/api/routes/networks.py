"""Routes of networks: create, inspect, list, connect, disconnect, remove."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from netkit.errors import InvalidSpec, NotFound, NotSupported
from netkit.spec import (
    DEFAULT_DRIVER,
    EndpointRecord,
    NetworkRecord,
    NetworkSpec,
    SubnetSpec,
)
from runtime.api.backend.engine import Engine
from runtime.api.json import networks as render_networks
from runtime.api.json.filter_networks import FILTERS, select
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.apitypes import ApiObject
from runtime.container.config import EndpointSettings

ENABLE_IPV4, ENABLE_IPV6 = (f"com.docker.network.enable_ipv{n}" for n in (4, 6))


class IPAMConfig(ApiObject):
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(ApiObject):
    driver: str = ""
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = None


class ConfigFrom(ApiObject):
    network: str = ""


class NetworkCreateRequest(ApiObject):
    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    ipam: IPAM | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigFrom | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class ConnectBody(ApiObject):
    container: str = ""
    endpoint_config: EndpointSettings | None = None


class DisconnectBody(ApiObject):
    container: str = ""
    force: bool = False


def to_network_spec(body: NetworkCreateRequest) -> NetworkSpec:
    """Convert the request to a NetworkSpec; NotSupported for features of swarm."""
    if not body.name.strip():
        raise InvalidSpec("network name cannot be empty")
    refused = (
        (body.ingress, "--ingress needs a swarm"),
        (body.scope == "swarm", "network scope 'swarm' needs a swarm: use local or global"),
        (body.config_only, "--config-only networks are not supported yet"),
        (body.config_from and body.config_from.network, "--config-from is not supported yet"),
    )
    for given, message in refused:
        if given:
            raise NotSupported(message)
    ipam = body.ipam or IPAM()
    options = dict(body.options or {})
    return NetworkSpec(
        name=body.name,
        driver=body.driver or DEFAULT_DRIVER,
        scope=body.scope or "local",
        subnets=tuple(
            SubnetSpec(
                subnet=c.subnet,
                ip_range=c.ip_range,
                gateway=c.gateway,
                aux=dict(c.auxiliary_addresses or {}),
            )
            for c in ipam.config or ()
        ),
        internal=body.internal,
        attachable=body.attachable,
        enable_ipv4=_either(body.enable_ipv4, options, ENABLE_IPV4, True),
        enable_ipv6=_either(body.enable_ipv6, options, ENABLE_IPV6, False),
        ipam_driver=ipam.driver or "default",
        ipam_options=dict(ipam.options or {}),
        options=options,
        labels=dict(body.labels or {}),
    )


def _either(given: bool | None, options: Mapping[str, str], key: str, default: bool) -> bool:
    """A field of the body, or the driver option with the same meaning."""
    text = options.get(key)
    if text is not None and text.lower() not in {"true", "false", "1", "0", "t", "f"}:
        raise InvalidSpec(f"driver-opt {key!r} is not a valid bool")
    if given is not None:
        return given
    return text.lower() in {"true", "1", "t"} if text is not None else default


async def create(call: ApiRequest) -> web.StreamResponse:
    wanted = to_network_spec(await call.body(NetworkCreateRequest))
    record, warnings = await call.executors.operate(call.engine.networks.create, wanted)
    return responses.data({"Id": record.id, "Warning": "\n".join(warnings)}, 201)


async def list_(call: ApiRequest) -> web.StreamResponse:
    filters = call.filters(FILTERS)
    records, used = await call.executors.read(_all, call.engine, "dangling" in filters)
    chosen = select(records, filters, used)
    return await responses.rendered(
        call.request, lambda: [render_networks.network(n, api=call.api) for n in chosen]
    )


def _all(engine: Engine, occupied: bool) -> tuple[list[NetworkRecord], set[str]]:
    """All networks, and if they are needed the ids of those with endpoints: a look at each one."""
    return engine.networks.all(), engine.networks.occupied() if occupied else set()


async def inspect(call: ApiRequest) -> web.StreamResponse:
    record, endpoints, peers = await call.executors.read(_one, call.engine, call.ref)
    if call.text("scope") not in {"", record.spec.scope}:
        raise NotFound(f"network {call.ref} not found")
    shown = render_networks.network(record, endpoints, api=call.api)
    if call.flag("verbose"):
        uses = await call.executors.read(call.engine.networks.address_use, record)
        shown["Status"] = render_networks.status(uses)
    return await responses.rendered(
        call.request, lambda: {**shown, "Peers": peers} if peers else shown
    )


def _one(
    engine: Engine, ref: str
) -> tuple[NetworkRecord, list[EndpointRecord], list[dict[str, str]]]:
    record, networks = engine.networks.find(ref), engine.networks
    return record, networks.endpoints(network=record.id), networks.peers(record)


async def connect(call: ApiRequest) -> web.StreamResponse:
    body = await call.body(ConnectBody)
    if not body.container:
        raise InvalidSpec("network connect needs a container: Container is empty")
    await call.executors.operate(
        call.engine.containers.connect,
        body.container,
        call.ref,
        body.endpoint_config or EndpointSettings(),
    )
    return responses.empty(200)


async def disconnect(call: ApiRequest) -> web.StreamResponse:
    body = await call.body(DisconnectBody)
    if not body.container:
        raise InvalidSpec("network disconnect needs a container: Container is empty")
    await call.executors.operate(
        call.engine.containers.disconnect, body.container, call.ref, force=body.force
    )
    return responses.empty(200)


async def remove(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(call.engine.networks.remove, call.ref)
    return responses.empty()


async def prune(call: ApiRequest) -> web.StreamResponse:
    names, warnings = await call.executors.operate(call.engine.networks.prune, call.prune_filters())
    shown = {"Warnings": warnings} if warnings else {}
    return responses.data({"NetworksDeleted": names or None, **shown})


async def drift(call: ApiRequest) -> web.StreamResponse:
    return responses.data(
        await call.executors.operate(call.engine.networks.drift, call.query_list("network"))
    )


async def plan(call: ApiRequest) -> web.StreamResponse:
    refs = call.query_list("network")
    return responses.data(await call.executors.operate(call.engine.networks.plan, refs))


async def plan_creation(call: ApiRequest) -> web.StreamResponse:
    wanted = to_network_spec(await call.body(NetworkCreateRequest))
    return responses.data(
        await call.executors.operate(call.engine.networks.plan_creation, wanted)
    )


async def plan_removal(call: ApiRequest) -> web.StreamResponse:
    ref = call.text("network")
    return responses.data(await call.executors.operate(call.engine.networks.plan_removal, ref))


ROUTES = [
    Route("GET", "/networks", list_),
    Route("GET", "/networks/", list_),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("POST", "/networks/{ref}/connect", connect),
    Route("POST", "/networks/{ref}/disconnect", disconnect),
    Route("GET", "/netkit/networks/drift", drift),
    Route("GET", "/netkit/networks/plan", plan),
    Route("GET", "/netkit/networks/plan/remove", plan_removal),
    Route("POST", "/netkit/networks/plan/create", plan_creation),
    Route("GET", "/networks/{ref}", inspect),
    Route("DELETE", "/networks/{ref}", remove),
]
