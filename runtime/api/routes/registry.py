"""Routes of registries: pull, push, search, log in, look up."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.json.filter_search import matching
from runtime.api.json.image_names import familiar
from runtime.api.server import responses
from runtime.api.server.progress_stream import following, respond
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.cancellation import Cancel
from runtime.images.pulling import Login, Logins, Progress
from runtime.images.reference import Reference, parse
from runtime.registry import credentials

T = TypeVar("T")

_AUTH = "X-Registry-Auth"


def _logins(call: ApiRequest) -> Logins:
    return credentials.of_header(call.request.headers.get(_AUTH, ""))


def _named(name: str, tag: str) -> Reference:
    """A name with its tag or digest, which may come apart."""
    bare = familiar(name)
    if not tag:
        return parse(bare)
    return parse(f"{bare}@{tag}" if ":" in tag else f"{bare}:{tag}")


def pulling(call: ApiRequest) -> Callable[[Progress, Cancel], object]:
    """The work of POST /images/create?fromImage=: one tag, or all if none is given."""
    name = _named(call.text("fromImage"), call.text("tag"))
    logins, platform = _logins(call), call.text("platform")
    registries = call.engine.registries

    def work(progress: Progress, cancel: Cancel) -> object:
        pull = registries.pull if name.tag or name.digest else registries.pull_all
        return pull(name, platform=platform, logins=logins, progress=progress, cancel=cancel)

    return work


async def push(call: ApiRequest) -> web.StreamResponse:
    name = _named(call.ref, call.text("tag"))
    logins, registries = _logins(call), call.engine.registries
    every = not name.tag and not name.digest
    if call.text("platform"):
        raise InvalidSpec("an image is of one platform here: leave platform out")

    def work(progress: Progress, cancel: Cancel) -> None:
        registries.push(name, logins=logins, progress=progress, cancel=cancel, every=every)

    return await respond(call.request, following(call.executors, work))


async def _cancelled_with_client(call: ApiRequest, act: Callable[[Cancel], T]) -> T:
    cancel = Cancel()
    try:
        return await call.executors.fetch(act, cancel)
    finally:
        cancel.set()


async def search(call: ApiRequest) -> web.StreamResponse:
    term = call.text("term")
    filters = call.filters({"stars", "is-official", "is-automated"})
    limit = call.number("limit") or 25
    if not 1 <= limit <= 100:
        raise InvalidSpec(f"Limit {limit} is outside the range of [1, 100]")
    logins, registries = _logins(call), call.engine.registries
    found = await _cancelled_with_client(
        call, lambda cancel: registries.search(term, limit, logins, cancel)
    )
    return responses.data(matching(found, filters))


async def auth(call: ApiRequest) -> web.StreamResponse:
    login: Login = credentials.of_body(await call.body(credentials.AuthBody))
    token = await _cancelled_with_client(
        call, lambda cancel: call.engine.registries.login(login, cancel)
    )
    return responses.data({"Status": "Login Succeeded", "IdentityToken": token})


async def distribution(call: ApiRequest) -> web.StreamResponse:
    found = await _looked_up(call)
    document = found.document
    return responses.data({
        "Descriptor": {
            "mediaType": document.media_type, "digest": document.digest, "size": len(document.raw),
        },
        "Platforms": [_platform(each) for each in found.platforms],
    })  # fmt: skip


async def manifest(call: ApiRequest) -> web.StreamResponse:
    """netkit's own: the document itself, for `netkit manifest inspect`."""
    found = await _looked_up(call)
    document = found.document
    return responses.data({
        "Descriptor": {
            "mediaType": document.media_type, "digest": document.digest, "size": len(document.raw),
        },
        "Platforms": [_platform(each) for each in found.platforms],
        "Raw": base64.b64encode(document.raw).decode(),
    })  # fmt: skip


async def _looked_up(call: ApiRequest) -> Any:
    name, logins = parse(familiar(call.ref)), _logins(call)
    return await _cancelled_with_client(
        call, lambda cancel: call.engine.registries.look(name, logins, cancel)
    )


def _platform(given: Any) -> dict[str, str]:
    shown = {"architecture": given.architecture or "", "os": given.os or ""}
    return shown | ({"variant": given.variant} if given.variant else {})


ROUTES = [
    Route("GET", "/images/search", search),
    Route("POST", "/images/{ref}/push", push),
    Route("POST", "/auth", auth),
    Route("GET", "/distribution/{ref}/json", distribution),
    Route("GET", "/netkit/manifests/{ref}", manifest),
]
