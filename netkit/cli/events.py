"""events."""

from __future__ import annotations

import time

from netkit.cli import filters, moments, table
from netkit.cli.commands import NONE, command
from netkit.cli.flags import Options, text
from netkit.cli.goformat import Template
from netkit.cli.gotemplate import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netkit.cli.session import Session
    from netkit.client.engine import Json


@command(
    "[OPTIONS]", NONE,
    filters.flag(),
    text("format", "Format output: 'json' or a Go TEMPLATE"),
    text("since", "Show all events created since timestamp"),
    text("until", "Stream events until this timestamp"),
)  # fmt: skip
def events(session: Session, options: Options) -> None:
    show = shower(options.text("format"))
    answer = session.engine.stream(
        "GET", "/events",
        {"since": moments.seconds(options.text("since"), session.now),
         "until": moments.seconds(options.text("until"), session.now),
         "filters": filters.query(options)},
    )  # fmt: skip
    try:
        for event in session.engine.objects(answer):
            print(show(event), flush=True)
    except TemplateError as error:
        raise table.template_failure(error, table.TEMPLATE_ERROR) from None


def shower(source: str) -> Callable[[Json], str]:
    """How to print one event."""
    if not source:
        return line
    try:
        template = Template("{{json .}}" if source == "json" else table.unescaped(source))
    except TemplateError as error:
        raise table.template_failure(error) from None
    return lambda event: template.inspect("Event", event)


def line(event: Json) -> str:
    """2025-05-30T12:07:14.123456789Z container start ID (image=busybox, name=a)"""
    actor = event.get("Actor") or {}
    attributes = sorted((actor.get("Attributes") or {}).items())
    shown = ", ".join(f"{key}={given}" for key, given in attributes)
    words = f"{when(event)} {event['Type']} {event['Action']} {actor.get('ID', '')}"
    return f"{words} ({shown})" if shown else words


def when(event: Json) -> str:
    nanos = event.get("timeNano") or event.get("time", 0) * 10**9
    local = time.localtime(nanos // 10**9)
    offset = time.strftime("%z", local)
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + f".{nanos % 10**9:09d}{zone}"
