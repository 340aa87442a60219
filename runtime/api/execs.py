"""Further processes in containers."""

from __future__ import annotations

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api import render_containers, reply
from runtime.api.call import Call
from runtime.api.routes import Route
from runtime.api.talk import talk
from runtime.containers.config import Doc
from runtime.ports.containers import ExecConfig

_STDOUT = 1  # where Docker writes why an exec could not start


class StartBody(Doc):
    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None  # height, width


async def create(call: Call) -> web.StreamResponse:
    config = await call.body(ExecConfig)
    if not config.cmd:
        raise InvalidSpec("No exec command specified")
    id = await call.lanes.work(call.engine.execs.create, call.ref, config)
    return reply.data({"Id": id}, 201)


async def start(call: Call) -> web.StreamResponse:
    body = await call.body(StartBody, optional=True)
    size = _size(body)
    attachment = await call.lanes.work(
        call.engine.execs.start, call.ref, detach=body.detach, tty=body.tty, size=size
    )
    if attachment is None:
        return reply.empty(200)
    return await talk(call, attachment, error_channel=_STDOUT)


def _size(body: StartBody) -> tuple[int, int] | None:
    if not body.console_size:
        return None
    if len(body.console_size) != 2:
        raise InvalidSpec("invalid ConsoleSize: must be [height, width]")
    if not body.tty and any(body.console_size):
        raise InvalidSpec("console size is only supported on TTY")
    height, width = body.console_size
    return (height, width) if height and width else None


async def resize(call: Call) -> web.StreamResponse:
    height, width = call.extent("h"), call.extent("w")
    await call.lanes.look(call.engine.execs.resize, call.ref, height, width)
    return reply.empty(200)


async def inspect(call: Call) -> web.StreamResponse:
    found = await call.lanes.look(call.engine.execs.find, call.ref)
    return reply.data(render_containers.exec_instance(found))


ROUTES = [
    Route("POST", "/containers/{ref}/exec", create),
    Route("POST", "/exec/{ref}/start", start),
    Route("POST", "/exec/{ref}/resize", resize),
    Route("GET", "/exec/{ref}/json", inspect),
]
