"""What the application has for its handlers."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from netkit.ui.feed import Feed
from netkit.ui.files import File
from netkit.ui.guard import Guard
from netkit.ui.hub import Hub
from netkit.ui.source import LabControl, Source

GUARD = web.AppKey("ui guard", Guard)
HUB = web.AppKey("ui hub", Hub)
SOURCES = web.AppKey("ui sources", Mapping[str, Source])
FEEDS = web.AppKey("ui feeds", list[Feed])
FILES = web.AppKey("ui files", Mapping[str, File])
LAB = web.AppKey("ui lab", LabControl)
