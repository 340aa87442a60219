"""A resolver that has all of a view since an earlier daemon is not sent it again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from netkit.dns import client, control
from netkit.dns.client import Resolver
from netkit.dns.server import Server
from netkit.dns.zones import ResolverView, Zone

ZONE = Zone(id="n", name="net", names={"a": ("10.0.0.2",), "b": ("10.0.0.3", "10.0.0.4")},
            reverse={"10.0.0.2": "a.net"})  # fmt: skip
VIEW = ResolverView(zones=(ZONE,), links={"l": ("10.0.0.9",)}, upstreams=("192.0.2.1",))


class Connection:
    """Messages of a daemon to a resolver in this process."""

    sock = object()

    def __init__(self, served: Server, *, digests: bool = True) -> None:
        self._served, self._digests = served, digests
        self.sent: list[str] = []

    def connect(self) -> bool:
        return True

    def disconnect(self) -> None: ...

    def call(self, message: Any) -> Any:
        return self.call_all([message])[0]

    def call_all(self, messages: Any, fds: Any = ()) -> list[Any]:
        answers = []
        for message in messages:
            sockets = [SimpleNamespace(close=lambda: None) for _ in fds]
            answer = self._served._obey(message, sockets)  # type: ignore[arg-type]
            assert "error" not in answer
            if message["do"] == "list":
                if not self._digests:
                    del answer["digests"]
            else:
                self.sent.append(message["do"])
            answers.append(answer)
        return answers


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(client, "_mark", lambda path: f"1:{path}")
    monkeypatch.setattr(
        client, "listening", lambda *_: [SimpleNamespace(fileno=lambda: 0, close=lambda: None)]
    )
    monkeypatch.setattr("netkit.dns.server.Station", lambda *_: SimpleNamespace(close=lambda: None))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    made = Server(listener)
    first(made, {"x": VIEW, "y": replace(VIEW, links={})})
    yield made
    made.close()


def first(served: Server, views: dict[str, ResolverView]) -> None:
    daemon, _ = connected(served)
    for id, view in views.items():
        daemon.set(id, f"ns-{id}", view)
    daemon.close(stop=False)


def connected(served: Server, **how: Any) -> tuple[Resolver, Connection]:
    daemon = Resolver(Path("/nosuch"), None)  # type: ignore[arg-type]
    daemon._process = connection = Connection(served, **how)  # type: ignore[assignment]
    assert daemon._connect()
    return daemon, connection


def copy(view: ResolverView) -> ResolverView:
    """As another daemon computes it: equal, and no object of the other's."""
    zones = tuple(replace(z, names=dict(reversed(z.names.items()))) for z in view.zones)
    return replace(view, zones=zones)


def test_what_it_has_is_not_sent_again(served: Server) -> None:
    daemon, connection = connected(served)
    daemon.set("x", "ns-x", copy(VIEW))
    daemon.set("y", "ns-y", copy(replace(VIEW, links={})))
    assert connection.sent == []
    # and what changes from there on is
    zone = replace(ZONE, names={"a": ("10.0.0.2",), "c": ("10.0.0.5",)})
    daemon.set("x", "ns-x", replace(VIEW, zones=(zone,)))
    assert connection.sent == ["zone"]
    assert served._view("x").zones[0].names == zone.names
    daemon.close(stop=False)


@pytest.mark.parametrize(
    "view",
    [
        replace(VIEW, links={}),
        replace(VIEW, upstreams=("192.0.2.2",)),
        replace(VIEW, forward=False),
        replace(VIEW, zones=(replace(ZONE, names={"a": ("10.0.0.7",)}),)),
        replace(VIEW, zones=(replace(ZONE, reverse={}),)),
        replace(VIEW, zones=(replace(ZONE, name="other"),)),
        replace(VIEW, zones=(replace(ZONE, domain="weave.local"),)),
        replace(VIEW, zones=(replace(ZONE, names={**ZONE.names, "b": ("10.0.0.4", "10.0.0.3")}),)),
        replace(VIEW, zones=()),
    ],
)
def test_what_differs_is_sent(served: Server, view: ResolverView) -> None:
    daemon, connection = connected(served)
    daemon.set("x", "ns-x", view)
    assert connection.sent
    assert served._view("x") == view
    daemon.close(stop=False)


def test_a_view_whose_zone_was_changed_since_is_compared_with_the_zone_of_now(
    served: Server,
) -> None:
    daemon, _ = connected(served)
    changed = replace(ZONE, names={"z": ("10.0.0.8",)})
    daemon.set("y", "ns-y", replace(VIEW, links={}, zones=(changed,)))
    daemon.set("x", "ns-x", copy(VIEW))  # its digest is still that of the list
    assert served._view("x").zones[0].names == ZONE.names
    daemon.close(stop=False)


def test_a_namespace_made_anew_gets_new_sockets(served: Server) -> None:
    daemon, connection = connected(served)
    daemon.set("x", "another", copy(VIEW))
    assert connection.sent[-1] == "set"
    daemon.close(stop=False)


def test_a_resolver_of_an_earlier_version_is_sent_all(served: Server) -> None:
    daemon, connection = connected(served, digests=False)
    daemon.set("x", "ns-x", copy(VIEW))
    assert connection.sent[0] == "zone"
    assert connection.sent[-1] == "update"
    daemon.close(stop=False)


def test_a_full_list_fits_into_a_message() -> None:
    page = {f"{n:064x}": f"4:{4026532000 + n}" for n in range(control.LISTED)}
    answer = {"sandboxes": page, "digests": ["0" * 24] * len(page), "pid": 1, "more": True}
    assert len(str(answer)) < control.LARGEST
