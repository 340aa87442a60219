"""net trace: hop by hop from here to there and back, over all hosts whose engines are known."""

from __future__ import annotations

import os

import msgspec

from netkit.cli import table
from netkit.cli.commands import between, command, complain
from netkit.cli.ends import TRACED, USAGE, coloured
from netkit.cli.flags import Options, many, text, value
from netkit.cli.values import unsigned
from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine
from netkit.client.failure import Failure, Refused
from netkit.diagnose.choosing import Place
from netkit.diagnose.trace.join import LARGEST, Asked, question, trace
from netkit.diagnose.trace.leg import Ask, Leg
from netkit.diagnose.trace.words import text as shown
from netkit.errors import InvalidSpec, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from netkit.cli.session import Session

HERE = "here"
VIA = "NETKIT_VIA"


class OnHost:
    """Implements join.Asked: the engine of one host, by its API."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def leg(self, ask: Ask) -> Leg:
        body = msgspec.json.encode(ask).decode()
        return msgspec.convert(self._engine.get("/netkit/trace", {"ask": body}), Leg)

    def locate(self, name: str) -> Place | None:
        try:
            found = self._engine.get("/netkit/trace/place", {"name": name})
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return msgspec.convert(found, Place)


class OnOther(OnHost):
    """The engine of another host.  One that cannot be asked knows no container, with a warning."""

    def __init__(self, name: str, engine: Engine) -> None:
        super().__init__(engine)
        self._name = name
        self._silent = False

    def leg(self, ask: Ask) -> Leg:
        try:
            return Leg(end="elsewhere") if self._silent else super().leg(ask)
        except Failure as failure:
            self._give_up(failure)
            return Leg(end="elsewhere")

    def locate(self, name: str) -> Place | None:
        try:
            return None if self._silent else super().locate(name)
        except Failure as failure:
            self._give_up(failure)
            return None

    def _give_up(self, failure: Failure) -> None:
        self._silent = True
        complain(f"WARNING: the engine of {self._name} cannot be asked: {failure}")


def _pair(text: str) -> str:
    name, equals, url = text.partition("=")
    if not (name and equals and url):
        raise ValueError(f"{text!r} is not of the form HOST=URL, e.g. h2=tcp://10.0.0.2:2375")
    return text


@command(
    USAGE,
    between(2, 3),
    text("format", "'json', or nothing for text"),
    many("via", "Another host's engine to ask where a packet gets there, as HOST=URL; also from "
         f"{VIA}, separated by commas", kind="list", parse=_pair),
    value("size", "uint16", unsigned(LARGEST), "Bytes of the packet, which must not be cut: where "
          "does it not fit?"),
    more=TRACED,
)  # fmt: skip
def trace_(session: Session, options: Options) -> int:
    """Exit code 0: it is delivered, and the answer comes back."""
    as_json = table.wants_json(options)
    source, target, *rest = options.args
    try:
        asked = question(source, target, "".join(rest), options.number("size"))
        found = trace(_engines(session, options), asked)
    except (InvalidSpec, NotFound) as error:
        raise Failure(str(error)) from None
    if as_json:
        import json

        print(json.dumps(msgspec.to_builtins(found), indent=4))
    else:
        said = shown(found)
        print(coloured(said, found.verdict) if session.colour else said)
    return 0 if found.verdict == "DELIVERED" else 1


def _engines(session: Session, options: Options) -> Mapping[str, Asked]:
    """The session's own first, by the name it has among the others."""
    listed = [_pair(p) for p in os.environ.get(VIA, "").split(",") if p]
    urls = dict(p.split("=", 1) for p in (*listed, *options.texts("via")))
    here = next((name for name, url in urls.items() if url == session.endpoint.text), HERE)
    out: dict[str, Asked] = {here: OnHost(session.engine)}
    for name, url in urls.items():
        if name != here:
            out[name] = OnOther(name, Engine(parse_host(url, session.endpoint.tls)))
    return out
