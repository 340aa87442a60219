"""Routes of the engine: ping, version, info, disk usage, events."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api import older_versions
from runtime.api.backend.engine import Engine
from runtime.api.json import containers as render_containers
from runtime.api.json import images, volumes
from runtime.api.json.filter_images import select
from runtime.api.query import timestamp
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.api.version import NEWEST, OLDEST, ApiVersion, text

EVENT_FILTERS = frozenset(
    {"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin",
     "scope", "secret", "service", "type", "volume"}
)  # fmt: skip
_DF_TYPES = frozenset({"container", "image", "volume", "build-cache"})
_NO_SWARM: dict[str, Any] = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}
INFO: dict[str, Any] = {  # fields that Docker's client expects; the engine's values override them
    "Containers": 0,
    "ContainersRunning": 0,
    "ContainersPaused": 0,
    "ContainersStopped": 0,
    "Images": 0,
    "Driver": render_containers.STORAGE,
    "DriverStatus": [],
    "Plugins": {"Volume": [], "Network": [], "Authorization": None, "Log": []},
    "Swarm": _NO_SWARM,
    "LoggingDriver": "json-file",
    "SecurityOptions": [],
    "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
    "Labels": [],
    "Warnings": [],
    "Runtimes": {},
    "OSType": "linux",
    "ExperimentalBuild": False,
    "LiveRestoreEnabled": True,
    "HttpProxy": "",
    "HttpsProxy": "",
    "NoProxy": "",
    "Isolation": "",
    "IndexServerAddress": "",
    "ContainerdCommit": {"ID": ""},
    "RuncCommit": {"ID": ""},
    "InitCommit": {"ID": ""},
}


async def ping(call: ApiRequest) -> web.StreamResponse:
    headers = {
        "Builder-Version": "1",
        "Swarm": "inactive",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Content-Type": "text/plain; charset=utf-8",
    }
    return web.Response(body=b"OK", headers=headers)


async def version(call: ApiRequest) -> web.StreamResponse:
    return responses.data(versions(await call.executors.read(call.engine.system.version)))


_DETAILS = (
    "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "KernelVersion",
    "BuildTime",
)  # fmt: skip


def versions(own: dict[str, Any]) -> dict[str, Any]:
    """Render GET /version: the engine's version, and the API versions served.

    Docker's client shows the details of the component "Engine" rather than the top level.
    """
    whole = {**own, "ApiVersion": text(NEWEST), "MinAPIVersion": text(OLDEST)}
    details = {name: str(whole.get(name, "")) for name in _DETAILS} | {"Experimental": "false"}
    engine: dict[str, Any] = {"Name": "Engine", "Version": str(whole.get("Version", ""))}
    others = []
    for component in own.get("Components") or ():
        if component.get("Name") == "Engine":
            engine = component
        else:
            others.append(component)
    engine = {**engine, "Details": {**(engine.get("Details") or {}), **details}}
    return {**whole, "Components": [engine, *others]}


COUNTS = web.AppKey("counts", dict[object, asyncio.Future[dict[str, Any]]])  # under way


async def info(call: ApiRequest) -> web.StreamResponse:
    return responses.data(
        older_versions.info(await call.executors.operate(_info, call.engine), call.api)
    )


def _info(engine: Engine) -> dict[str, Any]:
    states = [c.state.status for c in engine.containers.all()]
    counted = {
        "Containers": len(states),
        "ContainersRunning": states.count("running") + states.count("restarting"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": sum(s not in {"running", "restarting", "paused"} for s in states),
        "Images": len(engine.images.all()),
    }
    return {**INFO, **counted, **engine.system.info()}


async def disk_usage(call: ApiRequest) -> web.StreamResponse:
    types = call.query_list("type")
    for name in types:
        if name not in _DF_TYPES:
            raise InvalidSpec(f"unknown object type: {name}")
    wanted = frozenset(types) or _DF_TYPES
    found = await _at_once(call, wanted)
    return await responses.rendered(call.request, lambda: found)


async def _at_once(call: ApiRequest, wanted: frozenset[str]) -> dict[str, Any]:
    """Share the result of an identical request in progress, as Docker does."""
    counts = call.request.app[COUNTS]
    key = (wanted, call.api)
    if (task := counts.get(key)) is None:
        task = counts[key] = asyncio.ensure_future(
            call.executors.operate(_disk_usage, call, wanted)
        )
        task.add_done_callback(lambda _: counts.pop(key, None))
    return await asyncio.shield(task)


def _disk_usage(call: ApiRequest, wanted: frozenset[str]) -> dict[str, Any]:
    engine = call.engine
    usage: dict[str, Any] = {"LayersSize": 0}
    containers = engine.containers.all()
    if "image" in wanted:
        used = Counter(c.image for c in containers)
        shown = select(engine.images.all(), {}, call.now)
        shared = engine.images.shared_sizes(shown)
        usage["Images"] = [
            images.summary(i, containers=used[i.id], shared=shared.get(i.id, 0), api=call.api)
            for i in shown
        ]
    if "container" in wanted:
        networks = {n.spec.name: n.id for n in engine.networks.all()}
        tags = {n: i.id for i in engine.images.all() for n in (*i.tags, *i.digests)}
        usage["Containers"] = [
            render_containers.summary(
                c, (), networks, call.now,
                tags=tags, sizes=engine.containers.sizes(c.id), api=call.api,
            )
            for c in containers
        ]  # fmt: skip
    if "volume" in wanted:
        usage["Volumes"] = _volumes(engine, call.api)
    if "build-cache" in wanted:
        usage["BuildCache"] = []
    return {**usage, **engine.system.disk_usage(sorted(wanted))}


def _volumes(engine: Engine, api: ApiVersion) -> list[dict[str, Any]]:
    """As dockerd: without volumes that have options, whose files are elsewhere."""
    every = [v for v in engine.volumes.all() if not v.options]
    return [
        volumes.volume(
            v,
            engine.volumes.path(v.name),
            usage=(len(engine.volumes.users(v.name)), engine.volumes.size(v.name)),
            api=api,
        )
        for v in every
    ]


async def events(call: ApiRequest) -> web.StreamResponse:
    since = timestamp("since", call.text("since")) if call.text("since") else None
    until = timestamp("until", call.text("until"))
    if since and until and since > until:
        raise InvalidSpec(
            f"`since` time ({call.text('since')}) cannot be after `until` time "
            f"({call.text('until')})"
        )
    filters = call.filters(EVENT_FILTERS)
    source = call.engine.events.subscribe(since, until, filters)
    return await responses.send_objects(call.request, source)


ROUTES = [
    Route("GET", "/_ping", ping),
    Route("HEAD", "/_ping", ping),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/system/df", disk_usage),
    Route("GET", "/events", events),
]
