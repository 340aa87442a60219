"""Routes of images: list, inspect, load, save, import, tag, remove."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from netkit.errors import InvalidSpec, NotFound
from runtime.api.json import images as render_images
from runtime.api.json.filter_images import FILTERS, select
from runtime.api.json.image_names import repo_and_tag
from runtime.api.routes import registry
from runtime.api.server import responses
from runtime.api.server.image_platform import check_platform
from runtime.api.server.progress_stream import following, respond
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.api.server.streaming import READ_AHEAD, pulled, uploading
from runtime.build.download import Download
from runtime.images.importing import ImportRequest


async def list_(call: ApiRequest) -> web.StreamResponse:
    filters = call.filters(FILTERS)
    if call.text("filter"):  # before API 1.25
        filters.setdefault("reference", []).append(call.text("filter"))
    images = await call.executors.read(call.engine.images.all)
    counts: dict[str, int] = {}
    if counted := call.api >= (1, 51):
        for c in await call.executors.read(call.engine.containers.all):
            counts[c.image] = counts.get(c.image, 0) + 1
    sizes: dict[str, int] = {}
    if shared := call.flag("shared-size"):
        counted_in = select(images, {}, call.now, all=call.flag("all"))
        sizes = await call.executors.read(call.engine.images.shared_sizes, counted_in)
    return await responses.rendered(
        call.request,
        lambda: [
            render_images.summary(
                i,
                containers=counts.get(i.id, 0) if counted else -1,
                shared=sizes.get(i.id, 0) if shared else -1,
                api=call.api,
            )
            for i in select(images, filters, call.now, all=call.flag("all"))
        ],
    )


async def inspect(call: ApiRequest) -> web.StreamResponse:
    if call.text("platform"):
        await check_platform(call, call.text("platform"))
    try:
        image = await call.executors.read(call.engine.images.find, call.ref)
    except (NotFound, InvalidSpec) as error:  # as dockerd: clients look for both halves
        raise type(error)(f"no such image: {call.ref}: {error}") from error
    return await responses.rendered(
        call.request, lambda: render_images.inspect(image, api=call.api)
    )


async def history(call: ApiRequest) -> web.StreamResponse:
    if call.text("platform"):
        await check_platform(call, call.text("platform"))
    found = await call.executors.read(call.engine.images.history, call.ref)
    return await responses.rendered(call.request, lambda: found)


async def tag_(call: ApiRequest) -> web.StreamResponse:
    repo, tag = repo_and_tag(call.text("repo"), call.text("tag"))
    await call.executors.operate(call.engine.images.tag, call.ref, repo, tag)
    return responses.empty(201)


async def remove(call: ApiRequest) -> web.StreamResponse:
    gone = await call.executors.operate(
        call.engine.images.remove,
        call.ref,
        force=call.flag("force"),
        prune=not call.flag("noprune"),
    )
    return responses.data(gone)


async def prune(call: ApiRequest) -> web.StreamResponse:
    gone, won = await call.executors.operate(
        call.engine.images.prune, call.prune_filters("dangling")
    )
    return responses.data({"ImagesDeleted": gone or None, "SpaceReclaimed": won})


async def load(call: ApiRequest) -> web.StreamResponse:
    for platform in call.query_list("platform"):
        await check_platform(call, platform)
    return await respond(call.request, _loading(call))


async def _loading(call: ApiRequest) -> AsyncGenerator[bytes, None]:
    with uploading(call.request) as upload:
        lines = pulled(call.executors, call.engine.images.load(upload), taking=True)
        async with aclosing(lines) as loaded:
            try:
                async for text in loaded:
                    yield responses.line({"stream": text.rstrip("\n") + "\n"})
            except InvalidSpec as error:  # as dockerd: 200, also before the first line
                yield responses.failure(str(error))


async def save(call: ApiRequest) -> web.StreamResponse:
    for platform in call.query_list("platform"):
        await check_platform(call, platform)
    refs = [call.ref] if "ref" in call.args else call.query_list("names")
    if not refs:
        raise InvalidSpec("save needs at least one image: names is missing")
    layout = call.text("format", "docker")
    tar = await call.executors.operate(call.engine.images.save, refs, layout)
    return await responses.send(call.request, pulled(call.executors, tar), responses.TAR)


async def create(call: ApiRequest) -> web.StreamResponse:
    """`docker import` and `docker pull`."""
    if call.text("fromImage"):
        return await respond(call.request, following(call.executors, registry.pulling(call)))
    if not (source := call.text("fromSrc")):
        raise InvalidSpec("neither fromImage nor fromSrc was given")
    repo, tag = call.text("repo"), call.text("tag")
    if repo:
        repo, tag = repo_and_tag(repo, tag)
    if source != "-" and "://" not in source:
        source = f"http://{source}"
    wanted = ImportRequest(
        repo=repo, tag=tag, message=call.text("message"), changes=call.query_list("changes"),
        source=source, platform=call.text("platform"),
    )  # fmt: skip
    lines = _importing(call, wanted) if source == "-" else _fetching(call, wanted)
    return await respond(call.request, lines)


async def _importing(call: ApiRequest, wanted: ImportRequest) -> AsyncGenerator[bytes, None]:
    with uploading(call.request) as upload:
        id = await call.executors.receive(call.engine.images.import_, upload, wanted)
    yield responses.line({"status": id})


async def _fetching(call: ApiRequest, wanted: ImportRequest) -> AsyncGenerator[bytes, None]:
    download = await call.executors.receive(Download, wanted.source)
    with download:
        yield responses.line({"status": f"Downloading from {wanted.source}"})
        fetched = _Fetched(download)
        id = await call.executors.receive(call.engine.images.import_, fetched, wanted)
    yield responses.line({"status": id})


class _Fetched:
    """A download as an upload: it ends within its own bounds, whether or not the client stays."""

    def __init__(self, download: Download) -> None:
        self._download = download

    def read(self, size: int = -1, /) -> bytes:
        return self._download.read(size if size > 0 else READ_AHEAD)

    def check(self) -> None: ...


ROUTES = [
    Route("GET", "/images/json", list_),
    Route("GET", "/images/get", save),
    Route("POST", "/images/load", load),
    Route("POST", "/images/create", create),
    Route("POST", "/images/prune", prune),
    Route("GET", "/images/{ref}/get", save),
    Route("GET", "/images/{ref}/json", inspect),
    Route("GET", "/images/{ref}/history", history),
    Route("POST", "/images/{ref}/tag", tag_),
    Route("DELETE", "/images/{ref}", remove),
]
