"""POST /commit: an image of a container."""

from __future__ import annotations

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.json.image_names import repo_and_tag
from runtime.api.server import gojson, responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.container.config import Config
from runtime.container.options import CommitRequest

_FIELDS = frozenset(name.lower() for name in Config.__struct_encode_fields__)


async def commit(call: ApiRequest) -> web.StreamResponse:
    if not (ref := call.text("container")):
        raise InvalidSpec('invalid name or ID supplied: ""')
    repo, tag = call.text("repo"), call.text("tag")
    if repo:
        repo, tag = repo_and_tag(repo, tag)
    request = CommitRequest(
        repo=repo,
        tag=tag,
        comment=call.text("comment"),
        author=call.text("author"),
        pause=call.flag("pause", default=True),
        changes=call.query_list("changes"),
        config=config(await call.raw_body()),
    )
    id = await call.executors.operate(call.engine.containers.commit, ref, request)
    return responses.data({"Id": id}, 201)


def config(body: bytes) -> Config | None:
    """The configuration in the body; None, as for dockerd, if it has no field of one."""
    given = gojson.parse(body) if body.strip() else {}
    if not any(name.lower() in _FIELDS for name in given):
        return None
    return gojson.convert(given, Config)


ROUTES = [Route("POST", "/commit", commit)]
