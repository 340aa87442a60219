"""What the page asks beside the stream: traces, containers, logs.  Nothing is changed by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from netkit.cli.trace import OnHost, OnOther
from netkit.diagnose.trace.join import Asked, Trace, question, trace
from netkit.diagnose.trace.words import text
from netkit.errors import InvalidSpec, NotFound
from netkit.ui.containers import details, logs
from netkit.ui.keys import LAB, SOURCES
from netkit.ui.source import LabControl, Source

LONGEST = 300  # characters of a name


def table(base: str, *, in_lab: bool) -> list[web.RouteDef]:
    found = [
        web.post(f"{base}trace", _trace),
        web.get(f"{base}container", _container),
        web.get(f"{base}logs", _logs),
    ]
    return found + ([web.get(f"{base}lab", _lab)] if in_lab else [])


async def _trace(request: web.Request) -> web.StreamResponse:
    """{"from", "to", "service", "engine"} -> {"Trace", "Text"}, as `netkit net trace` shows it."""
    asked = await _body(request)
    source, target = _word(asked, "from"), _word(asked, "to")
    service, first = str(asked.get("service") or "")[:LONGEST], str(asked.get("engine") or "")
    lab = request.app.get(LAB)
    found = await asyncio.to_thread(
        _traced, request.app[SOURCES], first, lab, (source, target, service)
    )
    return web.json_response({"Trace": msgspec.to_builtins(found), "Text": text(found)})


def _traced(
    sources: Mapping[str, Source], first: str, lab: LabControl | None, words: tuple[str, str, str]
) -> Trace:
    if lab is not None and (found := lab.trace(*words)) is not None:
        return found
    asked = question(*words)
    order = sorted(sources, key=lambda name: name != first)
    engines = {name: sources[name].networks() for name in order}
    try:
        here, *others = order
        along: dict[str, Asked] = {here: OnHost(engines[here])}
        along |= {name: OnOther(name, engines[name]) for name in others}
        return trace(along, asked)
    finally:
        for engine in engines.values():
            engine.close()


async def _container(request: web.Request) -> web.StreamResponse:
    source, name = _source(request), _asked(request, "id")
    return web.json_response(await asyncio.to_thread(details, source, name))


async def _logs(request: web.Request) -> web.StreamResponse:
    source, name = _source(request), _asked(request, "id")
    return web.Response(body=await asyncio.to_thread(logs, source, name))


async def _lab(request: web.Request) -> web.StreamResponse:
    return web.json_response(await asyncio.to_thread(request.app[LAB].document))


def _source(request: web.Request) -> Source:
    name = request.query.get("engine", "")
    sources = request.app[SOURCES]
    if (found := sources.get(name)) is None:
        raise NotFound(f"there is no engine {name[:80]!r}: {', '.join(sources)}")
    return found


def _asked(request: web.Request, name: str) -> str:
    return _word(request.query, name)


def _word(given: Mapping[str, Any], name: str) -> str:
    found = given.get(name)
    if not (isinstance(found, str) and 0 < len(found) <= LONGEST):
        raise InvalidSpec(f"bad parameter: {name} must be text of 1 to {LONGEST} characters")
    return found


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.text())
    except ValueError:
        raise InvalidSpec("the body is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidSpec("the body is no JSON object")
    return found
