"""Routes of containers: create, inspect, list, start, stop, update, remove."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from netkit.errors import InvalidSpec, NetkitError, NotFound, NotSupported
from netkit.spec import EndpointRecord
from runtime.api import older_versions
from runtime.api.backend.engine import Engine
from runtime.api.json import containers as render_containers
from runtime.api.json.filter_containers import FILTERS, ContainerFilter, select
from runtime.api.server import gojson, responses
from runtime.api.server.image_platform import check_platform
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.container.config import CreateRequest
from runtime.container.model import Container, ContainerSizes
from runtime.container.options import UpdateRequest
from runtime.network import links as linking

_POINTERS = frozenset({"PidsLimit", "OomKillDisable", "MemorySwappiness"})  # zero means zero
_NOT_UPDATABLE = "update of {} is not supported: only resources and the restart policy can change"


async def create(call: ApiRequest) -> web.StreamResponse:
    request = await call.body(CreateRequest)
    if not request.image:
        raise InvalidSpec("config cannot be empty in order to create a container: Image is missing")
    changed = older_versions.create_request(request, call.api)
    await check_platform(call, call.text("platform") if call.api >= (1, 41) else "")
    name = call.text("name").removeprefix("/") or None
    id, warnings = await call.executors.operate(call.engine.containers.create, request, name)
    return responses.data({"Id": id, "Warnings": [*changed, *warnings]}, 201)


async def list_(call: ApiRequest) -> web.StreamResponse:
    filters = call.filters(FILTERS)
    for name in ("before", "since"):  # parameters from before there were filters
        if call.text(name):
            filters.setdefault(name, []).append(call.text(name))
    limit = max(call.number("limit") or 0, 0)
    listing = await call.executors.read(_listing, call.engine, filters, call.flag("all"), limit)
    sizes: Mapping[str, ContainerSizes] = {}
    if call.flag("size"):
        sizes = await call.executors.operate(_sizes, call.engine, listing.chosen)

    def shown(c: Container) -> msgspec.Raw:
        # Encoded one by one: as objects, thousands would take ten times the memory of the reply.
        return msgspec.Raw(msgspec.json.encode(render_containers.summary(
            c, listing.live.get(c.id, ()), listing.networks, call.now, tags=listing.tags,
            links=listing.links.get(c.id, ()), sizes=sizes.get(c.id), api=call.api,
        )))  # fmt: skip

    return await responses.rendered(call.request, lambda: [shown(c) for c in listing.chosen])


class _Listing(msgspec.Struct):
    chosen: list[Container]
    live: dict[str, list[EndpointRecord]]  # endpoints by container id
    networks: dict[str, str]  # ids by name
    tags: dict[str, str]  # image ids by familiar name
    links: dict[str, list[str]]  # further names by container id


def _listing(
    engine: Engine, filters: Mapping[str, Sequence[str]], all: bool, limit: int
) -> _Listing:
    networks = {n.spec.name: n.id for n in engine.networks.all()}
    containers = engine.containers.all()
    links = linking.aliases(engine.containers.relating())
    wanted = ContainerFilter(
        filters=filters,
        all=all,
        limit=limit,
        ancestors=frozenset(_image_ids(engine, filters.get("ancestor", ()))),
        network_ids=networks,
        links=links,
    )
    chosen = select(containers, wanted)
    # One query: one for each container would take too long.
    live: dict[str, list[EndpointRecord]] = {}
    for endpoint in engine.networks.endpoints_of([c.id for c in chosen]):
        live.setdefault(endpoint.sandbox, []).append(endpoint)
    tags = {n: image.id for image in engine.images.all() for n in (*image.tags, *image.digests)}
    return _Listing(chosen, live, networks, tags, links)


def _image_ids(engine: Engine, refs: Sequence[str]) -> list[str]:
    found = []
    for ref in refs:
        try:
            found.append(engine.images.find(ref).id)
        except NotFound:
            continue  # as Docker: an unknown ancestor has no descendants
    return found


def _sizes(engine: Engine, containers: Sequence[Container]) -> dict[str, ContainerSizes]:
    sizes = {}
    for c in containers:
        try:
            sizes[c.id] = engine.containers.sizes(c.id)
        except NotFound:
            continue  # removed meanwhile
    return sizes


async def inspect(call: ApiRequest) -> web.StreamResponse:
    container, facts = await call.executors.read(_inspected, call.engine, call.ref)
    sizes = None
    if call.flag("size"):
        sizes = await call.executors.operate(call.engine.containers.sizes, container.id)
    settings, hostname = facts["network_settings"], container.config.hostname
    older_versions.network_settings(settings, container.id, hostname, call.api)
    return await responses.rendered(
        call.request, lambda: render_containers.inspect(container, **facts, sizes=sizes)
    )


def _inspected(engine: Engine, ref: str) -> tuple[Container, dict[str, Any]]:
    c = engine.containers.find(ref)
    settings = engine.containers.network_settings(c.id)
    folders, execs = engine.containers.folders(c.id), engine.execs.of(c.id)
    return c, {"network_settings": settings, "execs": execs, "folders": folders}


async def start(call: ApiRequest) -> web.StreamResponse:
    if call.text("checkpoint"):
        raise NotSupported("checkpoints are not supported")
    if call.request.content_length or call.request.headers.get("Transfer-Encoding"):
        given = await call.raw_body()
        if given.strip() not in {b"", b"{}", b"null"}:
            raise InvalidSpec(
                "starting container with non-empty request body was deprecated since API v1.22 "
                "and removed in v1.24"
            )
    return _changed(await call.executors.operate(call.engine.containers.start, call.ref))


async def stop(call: ApiRequest) -> web.StreamResponse:
    timeout, signal = call.number("t"), _signal(call)
    return _changed(
        await call.executors.operate(call.engine.containers.stop, call.ref, timeout, signal)
    )


def _signal(call: ApiRequest) -> str | None:
    """The signal to stop with; before API 1.42 only the container's own."""
    return call.text("signal") or None if call.api >= (1, 42) else None


def _changed(changed: bool) -> web.Response:
    return responses.empty(204 if changed else 304)


async def restart(call: ApiRequest) -> web.StreamResponse:
    timeout, signal = call.number("t"), _signal(call)
    await call.executors.operate(call.engine.containers.restart, call.ref, timeout, signal)
    return responses.empty()


async def kill(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(
        call.engine.containers.kill, call.ref, call.text("signal") or "KILL"
    )
    return responses.empty()


async def pause(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(call.engine.containers.pause, call.ref)
    return responses.empty()


async def unpause(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(call.engine.containers.unpause, call.ref)
    return responses.empty()


async def rename(call: ApiRequest) -> web.StreamResponse:
    name = call.text("name").removeprefix("/")
    if not name:
        raise InvalidSpec("Neither old nor new names may be empty")
    await call.executors.operate(call.engine.containers.rename, call.ref, name)
    return responses.empty()


async def update(call: ApiRequest) -> web.StreamResponse:
    body = gojson.parse(await call.raw_body())
    request = gojson.convert(body, UpdateRequest)
    request.given = older_versions.updated(given(body), call.api)
    unknown = set(request.given) - UPDATABLE
    if unknown:
        raise InvalidSpec(_NOT_UPDATABLE.format(sorted(unknown)[0]))
    warnings = await call.executors.operate(call.engine.containers.update, call.ref, request)
    return responses.data({"Warnings": list(warnings)})


UPDATABLE = frozenset(
    {"CpuShares", "Memory", "NanoCpus", "CgroupParent", "BlkioWeight", "BlkioWeightDevice",
     "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
     "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpusetCpus",
     "CpusetMems", "Devices", "DeviceCgroupRules", "DeviceRequests", "MemoryReservation",
     "MemorySwap", "MemorySwappiness", "OomKillDisable", "PidsLimit", "Ulimits",
     "RestartPolicy"}
)  # fmt: skip


def given(body: Mapping[str, Any]) -> list[str]:
    """The keys of an update that are set: Docker's client sends all, most of them zero."""
    named = [
        key
        for key, value in body.items()
        if value is not None
        and (key in _POINTERS or value not in (0, "", False, [], {}))
        and not (key == "RestartPolicy" and not value.get("Name"))
    ]
    return sorted(named)


async def remove(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(
        call.engine.containers.remove,
        call.ref,
        force=call.flag("force"),
        volumes=call.flag("v"),
        link=call.flag("link"),
    )
    return responses.empty()


async def prune(call: ApiRequest) -> web.StreamResponse:
    ids, won = await call.executors.operate(call.engine.containers.prune, call.prune_filters())
    return responses.data({"ContainersDeleted": ids or None, "SpaceReclaimed": won})


async def top(call: ApiRequest) -> web.StreamResponse:
    ps_args = call.text("ps_args") or "-ef"
    titles, processes = await call.executors.operate(call.engine.containers.top, call.ref, ps_args)
    return responses.data({"Titles": titles, "Processes": processes})


async def changes(call: ApiRequest) -> web.StreamResponse:
    found = await call.executors.operate(call.engine.containers.changes, call.ref)
    return responses.data([{"Path": path, "Kind": kind} for path, kind in found])


async def resize(call: ApiRequest) -> web.StreamResponse:
    height, width = call.extent("h"), call.extent("w")
    await call.executors.read(call.engine.containers.resize, call.ref, height, width)
    return responses.empty(200)


async def wait(call: ApiRequest) -> web.StreamResponse:
    condition = (call.text("condition") if call.api >= (1, 30) else "") or "not-running"
    if condition not in {"not-running", "next-exit", "removed"}:
        raise InvalidSpec(f'invalid condition: "{condition}"')
    # registered before the headers are sent: upon them the client starts the container
    ended = asyncio.ensure_future(call.engine.containers.waiter(call.ref, condition))
    await asyncio.sleep(0)
    if ended.done():
        ended.result()  # an error that is found at once still sets the status
    try:
        response = await responses.open_stream(call.request, responses.JSON)
        result = await _ended(ended)
        await response.write(msgspec.json.encode(result) + b"\n")
        await response.write_eof()
    finally:
        ended.cancel()
    return response


async def _ended(ended: asyncio.Future[tuple[int, str]]) -> dict[str, Any]:
    try:
        code, message = await ended
    except NetkitError as error:
        code, message = -1, str(error)
    return {"StatusCode": code} | ({"Error": {"Message": message}} if message else {})


ROUTES = [
    Route("POST", "/containers/create", create),
    Route("POST", "/containers/prune", prune),
    Route("GET", "/containers/json", list_),
    Route("GET", "/containers/{ref}/json", inspect),
    Route("GET", "/containers/{ref}/top", top),
    Route("GET", "/containers/{ref}/changes", changes),
    Route("POST", "/containers/{ref}/start", start),
    Route("POST", "/containers/{ref}/stop", stop),
    Route("POST", "/containers/{ref}/restart", restart),
    Route("POST", "/containers/{ref}/kill", kill),
    Route("POST", "/containers/{ref}/pause", pause),
    Route("POST", "/containers/{ref}/unpause", unpause),
    Route("POST", "/containers/{ref}/rename", rename),
    Route("POST", "/containers/{ref}/update", update),
    Route("POST", "/containers/{ref}/resize", resize),
    Route("POST", "/containers/{ref}/wait", wait),
    Route("DELETE", "/containers/{ref}", remove),
]
