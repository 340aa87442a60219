"""The route of netkit-cni: calls of the CNI plugin, answered with what it prints."""

from __future__ import annotations

from aiohttp import web

from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.apitypes import ApiObject

EXIT = "X-Cni-Exit"  # the plugin's exit code


class CniRequest(ApiObject):
    """`nsid`: "DEVICE:INODE" of CNI_NETNS, as the caller sees it; "" if there is none."""

    env: dict[str, str] | None = None
    stdin: str = ""
    nsid: str = ""


async def call(call: ApiRequest) -> web.StreamResponse:
    asked = await call.body(CniRequest)
    code, output = await call.executors.operate(
        call.engine.cni.call, asked.env or {}, asked.stdin, asked.nsid
    )
    return web.Response(body=output, content_type="application/json", headers={EXIT: str(code)})


ROUTES = [Route("POST", "/netkit/cni", call)]
