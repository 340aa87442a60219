"""Weave's core as the overlay's process sees it: verbs, rows, answers."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.overlay import verbs
from netkit.overlay.core import Pending, Settings, Step
from plugins.weave.entry import Entry, make

LANE = verbs.Network(
    id="ab" * 32, name="lane", vni=7, bridge="wv-ab", tap="wt-ab", vxlan="wx-ab",
    subnets=("10.32.0.0/16",),
)  # fmt: skip
WEB = verbs.Endpoint(
    id="e" * 64, network=LANE.id, mac="02:42:0a:20:00:01", addresses=("10.32.0.1",),
    names=("web",), container="c" * 64,
)  # fmt: skip


class Shell:
    """Keeps rows, and starts a core again from them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(launch="1", nickname="h1", founder=True, **settings)
        self.rows: dict[str, dict[bytes, bytes]] = {}
        self.now = 1.0
        self.settled: list[Any] = []
        self.start()

    def start(self) -> None:
        self.core: Entry = make(
            settings=self.settings, rows=self.rows, machine="m", boot=b"b",
            addresses=["192.0.2.1"], software="test", random=random.Random(1).randbytes,
            now=self.now,
        )  # fmt: skip
        self.did(self.core.start(self.now))

    def did(self, step: Step) -> None:
        for change in step.persist:
            table = self.rows.setdefault(change.table, {})
            if change.value is None:
                table.pop(change.key, None)
            else:
                table[change.key] = change.value
        self.settled += step.settled

    def do(self, verb: verbs.Known) -> Any:
        self.settled = []
        result, step = self.core.do(verb, self.now)
        self.did(step)
        if isinstance(result, Pending):
            while not self.settled:
                self.now += 0.5
                self.did(self.core.tick(self.now))
            (settled,) = self.settled
            assert settled.ticket == result.ticket
            if settled.error is not None:
                raise settled.error
            return settled.result
        return result


@pytest.fixture
def shell() -> Shell:
    made = Shell()
    made.do(verbs.PutNetwork(network=LANE))
    assert made.do(verbs.Claim(ident=WEB.id, address="10.32.0.1/16")) == "10.32.0.1/16"
    made.do(verbs.PutEndpoint(endpoint=WEB))
    return made


def test_what_was_said_is_known_to_the_next_process(shell: Shell) -> None:
    shell.do(verbs.DnsAdd(name="db", addresses=("10.32.0.9",), network=LANE.id))
    before = shell.do(verbs.Status())
    shell.start()
    after = shell.do(verbs.Status())
    assert (after.id, after.names, after.networks) == (before.id, before.names, before.networks)
    assert shell.core.networks() == [LANE]
    assert shell.do(verbs.DnsLookup(name="web.lane.weave.local")) == ["10.32.0.1"]
    assert shell.do(verbs.DnsLookup(name="10.32.0.9")) == ["db.lane.weave.local"]
    assert shell.do(verbs.Claim(ident=WEB.id, address="10.32.0.1/16")) == "10.32.0.1/16"


def test_nothing_is_written_for_what_is_known_already(shell: Shell) -> None:
    for verb in (verbs.PutNetwork(network=LANE), verbs.PutEndpoint(endpoint=WEB)):
        _, step = shell.core.do(verb, shell.now)
        assert (step.persist, step.send) == ((), [])


def test_all_of_a_host_is_put_in_the_place_of_what_there_was(shell: Shell) -> None:
    shell.do(verbs.Endpoints(endpoints=()))
    assert shell.do(verbs.DnsLookup(name="web.lane.weave.local")) == []
    shell.do(verbs.Endpoints(endpoints=(WEB,)))
    assert shell.do(verbs.DnsLookup(name="web.lane.weave.local")) == ["10.32.0.1"]
    shell.do(verbs.Networks(networks=()))
    assert shell.core.networks() == []
    assert shell.do(verbs.Status()).names == ()
    with pytest.raises(NotFound, match="does not know network"):
        shell.do(verbs.Endpoints(endpoints=(WEB,)))


def test_an_address_that_somebody_has_is_refused_and_one_that_is_free_given(shell: Shell) -> None:
    with pytest.raises(Conflict, match="in use"):
        shell.do(verbs.Claim(ident="other", address="10.32.0.1/16"))
    shell.do(verbs.Release(ident=WEB.id))
    assert shell.do(verbs.Claim(ident="other", address="10.32.0.1/16")) == "10.32.0.1/16"


def test_subnets_of_other_networks_come_last(shell: Shell) -> None:
    inner = msgspec.structs.replace(
        LANE, id="9" * 64, name="inner", vni=8, subnets=("10.32.0.0/24",)
    )  # fmt: skip
    shell.do(verbs.PutNetwork(network=inner))
    ask = verbs.Allocate(ident="other", subnet="10.32.0.0/16", network=LANE.id)
    assert shell.do(ask) == "10.32.1.0/16"
    ask = verbs.Allocate(ident="third", subnet="10.32.0.0/24", network=inner.id)
    assert shell.do(ask) == "10.32.0.2/24"


def test_what_is_held_is_listed_until_it_is_released(shell: Shell) -> None:
    given = shell.do(verbs.Allocate(ident="other", subnet="10.32.0.0/16"))
    shell.do(verbs.Claim(ident="far", address="192.168.1.2/24", network=LANE.id))
    held = [["other", given.partition("/")[0]], [WEB.id, "10.32.0.1"]]
    assert sorted(shell.do(verbs.Held())) == sorted(held), "without what nobody gives out"
    shell.start()
    assert sorted(shell.do(verbs.Held())) == sorted(held)
    shell.do(verbs.Release(ident="other"))
    assert shell.do(verbs.Held()) == [[WEB.id, "10.32.0.1"]]


@pytest.mark.parametrize(("resume", "left"), [(True, ["h2", "h3"]), (False, ["h3"])])
def test_a_launch_resumes_with_the_former_peers_or_forgets_them(
    resume: bool, left: list[str]
) -> None:
    shell = Shell(peers=(verbs.Peer(host="192.0.2.2", port=6783, name="h2"),))
    shell.settings = Settings(
        launch="2", resume=resume, peers=(verbs.Peer(host="192.0.2.3", port=6783, name="h3"),)
    )
    shell.start()
    assert sorted(target.name for target in shell.do(verbs.Status()).targets) == left


def test_of_several_what_can_be_done_is_and_the_rest_is_told(shell: Shell) -> None:
    other = msgspec.structs.replace(WEB, id="f", names=("db",), addresses=("10.32.0.3",))
    bad = msgspec.structs.replace(WEB, id="g", network="nonsense")
    with pytest.raises(NotFound, match="and 1 more were refused"):
        shell.do(verbs.Endpoints(endpoints=(bad, other, msgspec.structs.replace(bad, id="h"))))
    shell.start()
    assert shell.do(verbs.DnsLookup(name="db.lane.weave.local")) == ["10.32.0.3"]
    assert shell.do(verbs.DnsLookup(name="web.lane.weave.local")) == []


def test_a_full_name_says_which_network_it_is_on(shell: Shell) -> None:
    add = verbs.DnsAdd(name="DB.lane.Weave.local.", addresses=("10.32.0.9", "fd00::9"))
    shell.do(add)
    shell.do(verbs.DnsAdd(name="db.weave.local", addresses=("10.32.0.8",), network=LANE.id))
    assert sorted(shell.do(verbs.DnsLookup(name="db", network=LANE.id))) == ["10.32.0.9", "fd00::9"]
    assert shell.do(verbs.DnsLookup(name="db.weave.local")) == ["10.32.0.8"]
    shell.do(verbs.DnsRemove(name="db.lane.weave.local", addresses=("fd00::9",)))
    assert shell.do(verbs.DnsLookup(name="db", network=LANE.id)) == ["10.32.0.9"]
    for bad in ("a b", "-x.weave.local", "x..y", ".weave.local", "é", "n" * 64, "n." * 125 + "n"):
        with pytest.raises(InvalidSpec):
            shell.do(verbs.DnsAdd(name=bad, addresses=("10.32.0.9",), network=LANE.id))


def test_what_was_added_for_a_container_goes_with_its_address(shell: Shell) -> None:
    for name, container in (("site", WEB.container), ("out", "weave:extern")):
        shell.do(verbs.DnsAdd(
            name=name, addresses=WEB.addresses, network=LANE.id, container=container
        ))  # fmt: skip
    more = msgspec.structs.replace(WEB, names=("web", "www"))
    shell.do(verbs.PutEndpoint(endpoint=more))
    assert shell.do(verbs.DnsLookup(name="site", network=LANE.id)) == ["10.32.0.1"]
    shell.do(verbs.Endpoints(endpoints=()))
    shell.start()
    assert shell.do(verbs.DnsLookup(name="site", network=LANE.id)) == []
    assert shell.do(verbs.DnsLookup(name="out", network=LANE.id)) == ["10.32.0.1"]


def test_names_of_this_host_are_members_and_its_own_endpoints_are_not(shell: Shell) -> None:
    shell.do(verbs.DnsAdd(name="db", addresses=("10.32.0.9",), network=LANE.id))
    shell.do(verbs.DnsAdd(name="else", addresses=("10.32.0.9",)))  # of a network that is not here
    found = shell.do(verbs.Members())
    assert (found.members, found.after) == ((), "")
    assert [(n.network, n.name, n.addresses) for n in found.names] == [
        (LANE.id, "db", ("10.32.0.9",))
    ]
    assert [(h.name, h.address) for h in found.hosts] == [("h1", "192.0.2.1")]


def test_that_members_changed_is_reported_once_until_somebody_asks(shell: Shell) -> None:
    def reported(name: str) -> bool:
        verb = verbs.DnsAdd(name=name, addresses=("10.32.0.9",), network=LANE.id)
        _, step = shell.core.do(verb, shell.now)
        shell.did(step)
        return {"event": "members"} in step.notifications

    shell.do(verbs.Members())
    assert [reported(name) for name in ("a", "b", "c")] == [True, False, False]
    assert len(shell.do(verbs.Members()).names) == 3
    assert reported("d")


def test_targets_are_connected_to_once_for_each_launch() -> None:
    peer = verbs.Peer(host="192.0.2.7", port=6783, name="h7")
    shell = Shell(peers=(peer,))
    assert [t.name for t in shell.do(verbs.Status()).targets] == ["h7"]
    shell.do(verbs.Forget(peers=("h7",)))
    shell.start()
    assert shell.do(verbs.Status()).targets == ()
    other = verbs.Peer(host="192.0.2.8", port=6783)
    shell.do(verbs.Connect(peers=(peer, other)))
    shell.do(verbs.Connect(peers=(other,), replace=True))
    assert [t.address for t in shell.do(verbs.Status()).targets] == ["192.0.2.8:6783"]


def test_a_reset_alone_is_over_at_once(shell: Shell) -> None:
    _, step = shell.core.do(verbs.Reset(), shell.now)
    assert step.over


def test_a_copy_on_another_machine_is_refused(shell: Shell) -> None:
    with pytest.raises(Conflict, match="made on another machine"):
        make(
            settings=shell.settings, rows=shell.rows, machine="another", boot=b"b", addresses=[],
            software="test", random=random.Random(1).randbytes, now=1.0,
        )  # fmt: skip


def test_an_address_is_located_or_it_says_why_not(shell: Shell) -> None:
    shell.do(verbs.Networks(networks=(LANE,)))
    shell.do(verbs.Endpoints(endpoints=(WEB,)))
    found = shell.do(verbs.Locate(vni=7, address="10.32.0.1"))
    assert (found.peer, found.mac, found.addresses) == (found.me, WEB.mac, WEB.addresses)
    assert found == shell.do(verbs.Locate(vni=7, mac=WEB.mac))
    for verb in (verbs.Locate(vni=7, address="10.32.0.9"), verbs.Locate(vni=8, mac=WEB.mac)):
        nobody = shell.do(verb)
        assert (nobody.peer, nobody.why) == ("", "no host of the overlay has it on this network")
    with pytest.raises(InvalidSpec):
        shell.do(verbs.Locate(vni=7))
