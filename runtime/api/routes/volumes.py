"""Routes of volumes: create, inspect, list, remove, prune."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from runtime.api.backend.engine import Engine
from runtime.api.json import filter_volumes
from runtime.api.json import volumes as render_volumes
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.apitypes import ApiObject
from runtime.volumes.model import Volume


class VolumeCreateRequest(ApiObject):
    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


async def create(call: ApiRequest) -> web.StreamResponse:
    body = await call.body(VolumeCreateRequest, optional=True)
    made = await call.executors.operate(
        call.engine.volumes.create,
        body.name,
        driver=body.driver,
        options=body.driver_opts,
        labels=body.labels,
    )
    return responses.data(_shown(call, made), 201)


async def list_(call: ApiRequest) -> web.StreamResponse:
    filters = filter_volumes.parse(call.text("filters"), filter_volumes.FILTERS)
    volumes, used = await call.executors.read(_all, call.engine)
    chosen = filter_volumes.select(volumes, filters, used, call.api)
    return await responses.rendered(
        call.request,
        lambda: {"Volumes": [_shown(call, v) for v in chosen], "Warnings": None},
    )


def _all(engine: Engine) -> tuple[list[Volume], set[str]]:
    used = {m.name for c in engine.containers.all() for m in c.mounts if m.type == "volume"}
    return engine.volumes.all(), used


async def inspect(call: ApiRequest) -> web.StreamResponse:
    found = await call.executors.read(call.engine.volumes.find, call.ref)
    return responses.data(_shown(call, found))


async def remove(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(call.engine.volumes.remove, call.ref, force=call.flag("force"))
    return responses.empty()


async def prune(call: ApiRequest) -> web.StreamResponse:
    """Before 1.42 named volumes were pruned, too, and there was no filter `all`."""
    newer = call.api >= (1, 42)
    allowed = filter_volumes.PRUNE_FILTERS | ({"all"} if newer else set())
    filters = filter_volumes.parse(call.text("filters"), allowed)
    every = filter_volumes.flag(filters, "all") or not newer
    names, freed = await call.executors.operate(call.engine.volumes.prune, filters, every=every)
    return responses.data({"VolumesDeleted": names or None, "SpaceReclaimed": freed})


def _shown(call: ApiRequest, v: Volume) -> dict[str, Any]:
    return render_volumes.volume(v, call.engine.volumes.path(v.name), api=call.api)


ROUTES = [
    Route("GET", "/volumes", list_),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("GET", "/volumes/{ref}", inspect),
    Route("DELETE", "/volumes/{ref}", remove),
]
