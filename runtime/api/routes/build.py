"""Routes of builds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import msgspec
from aiohttp import web

from netkit.errors import InvalidSpec, NetkitError, NotSupported
from runtime import untrusted
from runtime.api import query
from runtime.api.server import responses
from runtime.api.server.progress_stream import followed, respond
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.api.server.streaming import uploading
from runtime.build.errors import CommandFailed
from runtime.build.output import Send
from runtime.build.request import BuildRequest
from runtime.cancellation import Cancel
from runtime.container.config import HostConfig, LogConfig, Ulimit
from runtime.images.reference import Reference, parse
from runtime.registry import credentials

T = TypeVar("T")


async def build(call: ApiRequest) -> web.StreamResponse:
    return await respond(call.request, _built(call, _request(call)), _failure)


async def _built(call: ApiRequest, request: BuildRequest) -> AsyncGenerator[bytes, None]:
    with uploading(call.request) as upload:

        def work(send: Send, cancel: Cancel) -> None:
            call.engine.builds.build(request, upload, send, cancel)

        async with aclosing(followed(call.executors.build, work)) as lines:
            async for line in lines:
                yield line


def _failure(error: NetkitError) -> bytes:
    if not isinstance(error, CommandFailed):
        return responses.failure(str(error))
    detail = {"code": error.code, "message": str(error)}
    return responses.line({"errorDetail": detail, "error": str(error)})


def _request(call: ApiRequest) -> BuildRequest:
    _check_unsupported(call)
    forced = call.flag("forcerm")
    return BuildRequest(
        dockerfile=call.text("dockerfile") or "Dockerfile",
        build_id=call.text("buildid"),
        remote=call.text("remote"),
        names=_names(call.query_list("t")),
        target=call.text("target"),
        platform=call.text("platform"),
        arguments=_json(call, "buildargs", dict[str, str | None], "build args") or {},
        labels=_json(call, "labels", dict[str, str], "labels") or {},
        cache=not call.flag("nocache"),
        cache_from=tuple(_json(call, "cachefrom", list[str], "cache sources") or ()),
        pull=call.flag("pull"),
        quiet=call.flag("q"),
        remove=forced or not call.text("rm") or call.flag("rm"),
        force_remove=forced,
        host_config=_host_config(call),
        logins=credentials.of_config(call.request.headers.get("X-Registry-Config", "")),
    )


def _check_unsupported(call: ApiRequest) -> None:
    if call.text("version") not in {"", "1"}:
        raise NotSupported(
            "BuildKit is not supported: set DOCKER_BUILDKIT=0, or let buildx use a builder of its "
            "own (--driver docker-container)"
        )
    if _json(call, "outputs", list[object], "outputs"):
        raise NotSupported("outputs are of BuildKit, which is not supported: leave --output out")
    if call.flag("squash"):
        raise InvalidSpec("squash is only supported with experimental mode")
    if (isolation := call.text("isolation")) not in {"", "default"}:
        raise InvalidSpec(f'Unsupported isolation: "{isolation[:100]}"')
    if call.query_list("securityopt"):
        raise InvalidSpec(
            "The daemon on this platform does not support setting security options on build"
        )


def _host_config(call: ApiRequest) -> HostConfig:
    return HostConfig(
        network_mode=call.text("networkmode"),
        extra_hosts=call.query_list("extrahosts") or None,
        memory=_number(call, "memory"),
        memory_swap=_number(call, "memswap"),
        cpu_shares=_number(call, "cpushares"),
        cpu_period=_number(call, "cpuperiod"),
        cpu_quota=_number(call, "cpuquota"),
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        cgroup_parent=call.text("cgroupparent"),
        shm_size=_number(call, "shmsize"),
        ulimits=_json(call, "ulimits", list[Ulimit], "ulimit settings"),
        log_config=LogConfig(type="none"),  # as dockerd: the client has seen the output
    )


def _number(call: ApiRequest, name: str) -> int:
    """0 for what is no number, as dockerd."""
    try:
        return query.integer(name, call.text(name) or "0")
    except InvalidSpec:
        return 0


def _json(call: ApiRequest, name: str, kind: type[T], what: str) -> T | None:
    if not (text := call.text(name)):
        return None
    found = untrusted.decode(text.encode("utf-8", "replace"), f"error reading {what}", ": not JSON")
    if found is None:
        return None
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"error reading {what}: {error}") from error


class BadParameter(NetkitError):
    """dockerd answers 500."""


def _names(given: list[str]) -> tuple[Reference, ...]:
    names: list[Reference] = []
    for text in filter(None, given):
        try:
            name = parse(text)
        except InvalidSpec as error:
            raise BadParameter(str(error)) from error
        if name.digest:
            raise BadParameter("build tag cannot contain a digest")
        if (full := Reference(name.repository, name.tag or "latest")) not in names:
            names.append(full)
    return tuple(names)


async def cancel(call: ApiRequest) -> web.StreamResponse:
    if not (id := call.text("id")):
        raise InvalidSpec("build ID not provided")
    call.engine.builds.cancel(id)
    return responses.empty(200)


ROUTES = [
    Route("POST", "/build", build),
    Route("POST", "/build/cancel", cancel),
]
