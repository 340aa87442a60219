"""From what the overlay's process reports of other hosts to what netkitd stores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from netkit.errors import KernelError, NotFound
from netkit.network.remote import RemoteState
from netkit.overlay.client import Ended
from netkit.overlay.verbs import AddedName, Host, Member, Membership
from runtime.network.weave import remote_members
from runtime.network.weave.remote_members import RemoteMembers, states

H2, H3 = "2" * 32, "3" * 32
HOSTS = (Host(id=H2, name="h2", address="192.0.2.2"), Host(id=H3, name="h3", address=""))


def member(name: str = "web", host: str = H2, **more: Any) -> Member:
    fields: dict[str, Any] = {
        "id": "e" * 32, "network": "lane", "host": host, "mac": "02:42:0a:20:00:01",
        "addresses": ("10.32.0.1", "192.168.1.2"), "names": (name, "site"), "container": "c" * 12,
    }  # fmt: skip
    return Member(**fields | more)


def test_members_and_names_are_sorted_by_network() -> None:
    added = [
        AddedName(network="lane", host=host, name=name, addresses=(address,), container="")
        for host, name, address in (
            (H2, "DB", "10.32.0.20"), (H3, "db", "10.32.0.3"), (H2, "db", "fd00::1"),
        )
    ]  # fmt: skip
    found = states(Membership(
        hosts=HOSTS, members=(member(), member(host=H3), member(network="other")),
        names=tuple(added),
    ))  # fmt: skip
    assert found.keys() == {"lane", "other"}
    lane = found["lane"]
    assert [n.host for n in lane.neighbours] == [H2, H3]
    first = lane.neighbours[0]
    assert (first.owner, first.names, first.host_address) == ("web", ("web", "site"), "192.0.2.2")
    assert (first.address, first.more_addresses) == ("10.32.0.1", ("192.168.1.2",))
    assert [(h.name, h.address) for h in lane.hosts] == [("h2", "192.0.2.2"), ("h3", "")]
    assert lane.peers == ("192.0.2.2",)
    assert [(n.name, n.addresses) for n in lane.names] == [
        ("db", ("10.32.0.3", "10.32.0.20", "fd00::1"))
    ]
    assert [h.name for h in found["other"].hosts] == ["h2"]


def test_a_peer_cannot_pass_its_container_off_as_another_s() -> None:
    found = states(Membership(hosts=HOSTS, members=(member(), member(host=H3)), names=()))
    ours, theirs = (n.sandbox for n in found["lane"].neighbours)
    assert ours != theirs
    assert ours.startswith("c" * 12)
    assert theirs.startswith("c" * 12)
    local = "c" * 64
    forged = states(Membership(hosts=HOSTS, members=(member(container=local),), names=()))
    assert forged["lane"].neighbours[0].sandbox != local


def test_addresses_of_ipv6_and_what_no_host_has_for_an_address_are_left_out() -> None:
    hosts = (Host(id=H2, name="h2", address="\x1b[2J"),)
    mixed = member(addresses=("fd00::1", "10.32.0.1", "fd00::2", "192.168.1.2"))
    lane = states(Membership(hosts=hosts, members=(mixed,), names=()))["lane"]
    (only,) = lane.neighbours
    assert (only.address, only.more_addresses) == ("10.32.0.1", ("192.168.1.2",))
    assert (only.host_address, lane.peers, lane.hosts[0].address) == ("", (), "")
    none = states(Membership(hosts=hosts, members=(member(addresses=("fd00::1",)),), names=()))
    assert (none["lane"].neighbours[0].address, none["lane"].neighbours[0].more_addresses) == (
        "", ()
    )


@pytest.mark.parametrize("bad", ["a b", "\x1b[2J", "é", "-x", "a..b", "", "x" * 254, "a\n", ".",
                                 "LocalHost"])
def test_texts_that_are_no_names_are_left_out(bad: str) -> None:
    added = AddedName(network="lane", host=H2, name=bad, addresses=("10.32.0.3",), container="")
    hosts = (Host(id=H2, name=bad, address="192.0.2.2"),)
    lane = states(Membership(
        hosts=hosts, members=(member(names=(bad, "ok"), container=bad),), names=(added,)
    ))["lane"]  # fmt: skip
    (only,) = lane.neighbours
    assert (only.names, only.owner, lane.names) == (("ok",), "ok", ())
    assert only.sandbox == "e" * 32 + H2
    if not bad.isascii() or not bad.isprintable() or " " in bad or len(bad) not in range(1, 254):
        assert lane.hosts[0].name == H2[:12]
    nameless = states(Membership(hosts=hosts, members=(member(names=()),), names=()))["lane"]
    assert nameless.neighbours[0].owner == "c" * 12


class Known:
    """What is updated, and a process that answers or does not."""

    def __init__(self) -> None:
        self.states: list[dict[str, RemoteState]] = []
        self.asked = 0
        self.updated = threading.Semaphore(0)
        self.error: Exception | None = None

    def update(self, states: dict[str, RemoteState]) -> None:
        self.states.append(states)
        self.updated.release()

    def channel(self) -> Any:
        self.asked += 1
        if (error := self.error) is not None:
            self.updated.release()
            raise error
        return _Channel()


class _Channel:
    def __enter__(self) -> _Channel:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def call(self, verb: object) -> Any:
        return {"hosts": [], "members": [], "names": [], "after": ""}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_members, "PAUSE", 0.0)
    monkeypatch.setattr(remote_members, "AGAIN", 0.01)


def awaited(semaphore: threading.Semaphore) -> bool:
    return semaphore.acquire(timeout=30)


def test_it_is_read_at_the_start_and_when_it_changed(quick: None) -> None:
    known = Known()
    followed = RemoteMembers(known, known.channel)
    followed.notify()
    assert known.asked == 0
    followed.start()
    assert awaited(known.updated)
    for happened in (
        lambda: followed.on_event({"event": "members"}), lambda: followed.on_sync(_any(), True)
    ):  # fmt: skip
        happened()
        assert awaited(known.updated)
    followed.on_event({"event": "path"})
    assert followed.on_sync(_any(), False) == {}
    followed.stop()
    assert known.asked == len(known.states) == 3
    followed.clear()
    assert known.states[-1] == {}


def test_there_is_a_pause_between_two_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_members, "PAUSE", 3600.0)
    known = Known()
    followed = RemoteMembers(known, known.channel)
    followed.start()
    assert awaited(known.updated)
    for _ in range(100):
        followed.notify()
    followed.stop()
    assert known.asked == 1


def _tried_twice(known: Known) -> tuple[RemoteMembers, list[dict[str, str]]]:
    """Who follows it, and what it reports to `on_sync`, after two attempts to read members."""
    followed = RemoteMembers(known, known.channel)
    reported: list[dict[str, str]] = []
    followed.changed = lambda: reported.append(followed.on_sync(_any(), False))
    followed.start()
    assert awaited(known.updated)
    assert awaited(known.updated)
    return followed, reported


def test_what_fails_is_tried_again_and_reported(quick: None) -> None:
    known = Known()
    known.error = KernelError("it does not answer")
    followed, reported = _tried_twice(known)
    assert "does not answer" in str(followed.on_sync(_any(), False))
    known.error = None
    _until(lambda: bool(known.states))
    followed.stop()
    assert followed.on_sync(_any(), False) == {}
    # At once, each time, and not with every attempt.
    assert reported == [{"containers of other hosts": "it does not answer"}, {}]


def test_that_the_process_ends_is_nothing_to_report(quick: None) -> None:
    known = Known()
    known.error = Ended("it was stopped meanwhile")
    followed, reported = _tried_twice(known)
    known.error = None
    _until(lambda: bool(known.states))
    followed.stop()
    assert reported == []


def test_a_process_that_does_not_run_is_waited_for(quick: None) -> None:
    known = Known()
    known.error = NotFound("not running")
    followed = RemoteMembers(known, known.channel)
    followed.start()
    assert awaited(known.updated)
    followed.stop()
    assert (known.asked, known.states) == (1, [])


def _any() -> Any:
    return None


def _until(what: Callable[[], bool]) -> None:
    for _ in range(3000):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError
