"""Routes of missing features: answer as dockerd does without swarm and plugins."""

from __future__ import annotations

from aiohttp import web

from netkit.errors import NetkitError, NotFound, NotSupported
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest, Handler
from runtime.api.server.routing import Route


class NoSwarm(NetkitError):
    status = 503

    def __init__(self) -> None:
        super().__init__(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to '
            "connect this node to swarm and try again."
        )


async def no_swarm(call: ApiRequest) -> web.StreamResponse:
    raise NoSwarm


async def no_plugin(call: ApiRequest) -> web.StreamResponse:
    raise NotFound(f'plugin "{call.ref}" not found')


def refuse(message: str) -> Handler:
    async def handler(call: ApiRequest) -> web.StreamResponse:
        raise NotSupported(message)

    return handler


def answer(value: object) -> Handler:
    async def handler(call: ApiRequest) -> web.StreamResponse:
        return responses.data(value)

    return handler


async def builder_prune(call: ApiRequest) -> web.StreamResponse:
    """The cache of builds is images: there is nothing else to prune."""
    call.engine.events.emit("builder", "prune", "", {"reclaimed": "0"})
    return responses.data({"CachesDeleted": None, "SpaceReclaimed": 0})


_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")
_METHODS = ("GET", "POST", "DELETE")
_BUILDKIT = (
    "BuildKit is not supported: set DOCKER_BUILDKIT=0, or let buildx use a builder of its own "
    "(--driver docker-container)"
)
_PLUGINS = "plugins of Docker's kind are not supported"
_CHECKPOINTS = "checkpoints are not supported"

_NO_SWARM = "there is no swarm here: `netkit cluster init` lets hosts share networks"

ROUTES = [
    Route("POST", "/swarm/init", refuse(_NO_SWARM)),
    Route("POST", "/swarm/join", refuse(_NO_SWARM)),
    *(Route(m, f"/{name}", no_swarm) for name in _SWARM for m in _METHODS),
    *(Route(m, f"/{name}/{{ref}}", no_swarm) for name in _SWARM for m in _METHODS),
    Route("PUT", "/volumes/{ref}", no_swarm),
    Route("GET", "/plugins", answer([])),
    Route("GET", "/plugins/privileges", refuse(_PLUGINS)),
    Route("POST", "/plugins/pull", refuse(_PLUGINS)),
    Route("POST", "/plugins/create", refuse(_PLUGINS)),
    Route("GET", "/plugins/{ref}/json", no_plugin),
    Route("POST", "/plugins/{ref}/enable", no_plugin),
    Route("POST", "/plugins/{ref}/disable", no_plugin),
    Route("POST", "/plugins/{ref}/set", no_plugin),
    Route("POST", "/plugins/{ref}/push", no_plugin),
    Route("POST", "/plugins/{ref}/upgrade", no_plugin),
    Route("DELETE", "/plugins/{ref}", no_plugin),
    Route("POST", "/build/prune", builder_prune),
    Route("POST", "/session", refuse(_BUILDKIT)),
    Route("POST", "/grpc", refuse(_BUILDKIT)),
    Route("GET", "/containers/{ref}/checkpoints", refuse(_CHECKPOINTS)),
    Route("POST", "/containers/{ref}/checkpoints", refuse(_CHECKPOINTS)),
    Route("DELETE", "/containers/{ref}/checkpoints/{checkpoint}", refuse(_CHECKPOINTS)),
]  # fmt: skip
