"""Containers' files: copy in, copy out, export."""

from __future__ import annotations

import base64
import stat

import msgspec
from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.api.server.streaming import pulled, uploading
from runtime.rootfs.stat import PathStat

PATH_STAT = "X-Docker-Container-Path-Stat"

_KINDS = {  # st_mode's type to the bits of Go's io/fs.FileMode
    stat.S_IFREG: 0,
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_EXTRAS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}
_IRREGULAR = 1 << 19


def go_mode(mode: int) -> int:
    """A Unix st_mode as Go's FileMode."""
    extras = sum(bit for unix, bit in _EXTRAS.items() if mode & unix)
    return (mode & 0o777) | extras | _KINDS.get(stat.S_IFMT(mode), _IRREGULAR)


def encoded(found: PathStat) -> str:
    """The value of X-Docker-Container-Path-Stat."""
    shown = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": found.mtime,
        "linkTarget": found.link,
    }
    return base64.b64encode(msgspec.json.encode(shown)).decode()


def _path(call: ApiRequest) -> str:
    path = call.text("path")
    if not path:
        raise InvalidSpec("bad parameter: path cannot be empty")
    return path


async def head(call: ApiRequest) -> web.StreamResponse:
    found = await call.executors.operate(call.engine.containers.stat_path, call.ref, _path(call))
    return web.Response(headers={PATH_STAT: encoded(found), "Content-Type": responses.JSON})


async def get(call: ApiRequest) -> web.StreamResponse:
    found, tar = await call.executors.operate(
        call.engine.containers.get_archive, call.ref, _path(call)
    )
    return await responses.send(
        call.request, pulled(call.executors, tar), responses.TAR, {PATH_STAT: encoded(found)}
    )


async def put(call: ApiRequest) -> web.StreamResponse:
    with uploading(call.request) as upload:
        await call.executors.receive(
            call.engine.containers.put_archive,
            call.ref,
            _path(call),
            upload,
            no_overwrite_dir=call.flag("noOverwriteDirNonDir"),
            copy_uid_gid=call.flag("copyUIDGID"),
        )
    return responses.empty(200)


async def export(call: ApiRequest) -> web.StreamResponse:
    tar = await call.executors.operate(call.engine.containers.export, call.ref)
    return await responses.send(
        call.request, pulled(call.executors, tar), "application/octet-stream"
    )


ROUTES = [
    Route("HEAD", "/containers/{ref}/archive", head),
    Route("GET", "/containers/{ref}/archive", get),
    Route("PUT", "/containers/{ref}/archive", put),
    Route("GET", "/containers/{ref}/export", export),
]
