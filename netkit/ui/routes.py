"""What the page asks beside the stream: traces, containers, logs.  Nothing is changed by it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from aiohttp import web

from netkit.cli.trace import OnHost, OnOther
from netkit.diagnose.trace.join import Asked, Trace, question, trace
from netkit.diagnose.trace.words import text
from netkit.ui.containers import details, logs
from netkit.ui.keys import LAB, SOURCES
from netkit.ui.request import LONGEST, body, container, source, word
from netkit.ui.source import LabControl, Source


def table(base: str) -> list[web.RouteDef]:
    return [
        web.post(f"{base}trace", _trace),
        web.get(f"{base}container", _container),
        web.get(f"{base}logs", _logs),
    ]


async def _trace(request: web.Request) -> web.StreamResponse:
    """{"from", "to", "service", "engine"} -> {"Trace", "Text"}, as `netkit net trace` shows it."""
    asked = await body(request)
    ends = word(asked, "from"), word(asked, "to")
    service, first = str(asked.get("service") or "")[:LONGEST], str(asked.get("engine") or "")
    lab = request.app.get(LAB)
    found = await asyncio.to_thread(_traced, request.app[SOURCES], first, lab, (*ends, service))
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
    found = await asyncio.to_thread(details, source(request), container(request))
    return web.json_response(found)


async def _logs(request: web.Request) -> web.StreamResponse:
    found = await asyncio.to_thread(logs, source(request), container(request))
    return web.Response(body=found, content_type="text/plain", charset="utf-8")
