"""Routes of execs."""

from __future__ import annotations

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.json import containers
from runtime.api.server import responses
from runtime.api.server.attach_session import run_session
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.api.version import ApiVersion
from runtime.apitypes import ApiObject
from runtime.container.config import ConsoleSize
from runtime.container.options import ExecConfig

_STDOUT = 1  # the channel on which Docker reports that an exec could not start


class StartBody(ApiObject):
    detach: bool = False
    tty: bool = False  # the stream is raw, not multiplexed; Tty of create makes the terminal
    console_size: ConsoleSize | None = None


async def create(call: ApiRequest) -> web.StreamResponse:
    config = await call.body(ExecConfig)
    if not config.cmd:
        raise InvalidSpec("No exec command specified")
    id = await call.executors.operate(call.engine.execs.create, call.ref, config)
    return responses.data({"Id": id}, 201)


async def start(call: ApiRequest) -> web.StreamResponse:
    body = await call.body(StartBody, optional=True)
    size = _size(body, call.api)
    attachment = await call.executors.operate(
        call.engine.execs.start, call.ref, detach=body.detach, tty=body.tty, size=size
    )
    if attachment is None:
        return responses.empty(200)
    return await run_session(call, attachment, error_channel=_STDOUT)


def _size(body: StartBody, api: ApiVersion) -> tuple[int, int] | None:
    """(height, width); ignored without Tty and before API 1.42, as by dockerd."""
    if not body.console_size or not body.tty or api < (1, 42):
        return None
    height, width = body.console_size
    return (height, width) if height and width else None


async def resize(call: ApiRequest) -> web.StreamResponse:
    height, width = call.extent("h"), call.extent("w")
    await call.executors.read(call.engine.execs.resize, call.ref, height, width)
    return responses.empty(200)


async def inspect(call: ApiRequest) -> web.StreamResponse:
    found = await call.executors.read(call.engine.execs.find, call.ref)
    return responses.data(containers.exec_instance(found))


ROUTES = [
    Route("POST", "/containers/{ref}/exec", create),
    Route("POST", "/exec/{ref}/start", start),
    Route("POST", "/exec/{ref}/resize", resize),
    Route("GET", "/exec/{ref}/json", inspect),
]
