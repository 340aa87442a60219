"""Apply all or nothing, verify, and say what could not be undone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from netkit.errors import KernelError, NotConverged, Unreachable
from netkit.model import Addr, Key, Link, Netns, Peer, Resource, State, Sysctl, state
from netkit.reconcile.converge import Change, converge, execute, fill_unobservable, ownership
from netkit.reconcile.plan import Op
from netkit.testing.kernel import NETNS, FakeKernel

OWNER = "netkit:e:n1"
mine = ownership("e", NETNS)


class Sticky(FakeKernel):
    """Refuses to delete `b1`."""

    def _remove(self, r: Resource) -> None:
        if r.key == ("link", "", "b1"):
            raise KernelError("busy")
        super()._remove(r)


class Forgetful(FakeKernel):
    """A kernel that accepts every change and does nothing."""

    def apply(self, ops: Sequence[Op]) -> None:
        return None


def test_the_first_error_wins_and_a_failed_undo_is_a_note() -> None:
    plan = tuple(Op(None, Link(name=n, kind="bridge")) for n in ("b0", "b1", "b2"))
    kernel = Sticky(fail_at=2)
    with pytest.raises(KernelError, match="injected") as e:
        execute(plan, kernel)
    assert e.value.__notes__ == ["could not undo + bridge b1: busy"]
    assert list(kernel.things) == [("link", "", "b1")]  # b0 was undone all the same


def test_a_kernel_that_lies_is_found_out() -> None:
    want = state([Link(name="b0", kind="bridge", owner=OWNER)])
    with pytest.raises(NotConverged, match=r"still to do .*: \+ bridge b0"):
        converge(Change.of(want), Forgetful(), mine)


def test_nothing_is_done_and_nothing_verified_when_all_is_well() -> None:
    want = state([Link(name="b0", kind="bridge", owner=OWNER)])
    kernel = FakeKernel.holding(want.values())
    kernel.fail_at = 0
    assert converge(Change.of(want), kernel, mine) == ()


def test_only_the_scope_is_touched() -> None:
    other = Link(name="b9", kind="bridge", owner=OWNER)
    kernel = FakeKernel.holding([other])
    converge(Change.of(state([Link(name="b0", kind="bridge", owner=OWNER)])), kernel, mine)
    assert ("link", "", "b9") in kernel.things


def test_a_removed_pair_is_put_back_by_the_undo_though_no_kernel_reports_its_far_end() -> None:
    ns = Netns(path=f"{NETNS}/a", owner=OWNER)
    pair = Link(name="v", kind="veth", peer=Peer(ns=ns.path, name="eth0"), owner=OWNER)
    made = state([ns, pair])
    kernel = FakeKernel.holding(made.values())
    kernel.fail_at = 1  # the pair goes, the namespace does not
    with pytest.raises(KernelError, match="injected at - network namespace"):
        converge(Change.of({}, made), kernel, mine)
    assert kernel.peers == {pair.key: pair.peer}


def test_an_observation_is_completed_only_with_what_it_could_not_see() -> None:
    pair = Link(name="v", kind="veth", peer=Peer(ns="/a", name="eth0"), mtu=1400, owner=OWNER)
    seen = state([replace(pair, peer=None, mtu=1500, owner=None)])
    (got,) = fill_unobservable(seen, state([pair])).values()
    assert got == replace(pair, mtu=1500, owner=None)


@pytest.mark.parametrize(
    ("resource", "ours"),
    [
        (Link(name="b", kind="bridge", owner="netkit:e:n:x"), True),
        (Link(name="b", kind="bridge", owner="netkit:e2:n"), False),
        (Link(name="b", kind="bridge"), False),
        (Link(name="eth0", kind="veth", ns=f"{NETNS}/a"), False),
        (Addr(dev="eth0", address=IPv4Interface("10.0.0.1/8"), ns=f"{NETNS}/a"), True),
        (Addr(dev="eth0", address=IPv4Interface("10.0.0.1/8"), ns="/run/other/a"), False),
        (Addr(dev="eth0", address=IPv4Interface("10.0.0.1/8")), False),
        (Netns(path=f"{NETNS}/a"), True),
        (Netns(path=f"{NETNS}-not/a"), False),
        (Sysctl(name="net/x", value="1"), False),
    ],
)
def test_ours_is_what_says_so_or_lies_in_our_folder(resource: Resource, ours: bool) -> None:
    assert mine(resource) is ours


class WithoutAddresses(FakeKernel):
    """A kernel that does not answer queries about addresses."""

    def observe(self, keys: Iterable[Key]) -> State:
        requested = set(keys)
        if any(k[0] == "addr" for k in requested):
            raise Unreachable("no answer", frozenset({"addr"}))
        return super().observe(requested)


def test_what_goes_goes_although_a_part_of_it_has_to_stay_for_later() -> None:
    link = Link(name="b0", kind="bridge", owner=OWNER)
    addr = Addr(dev="b0", address=IPv4Interface("10.0.0.1/24"), owner=OWNER)
    other = Link(name="b1", kind="bridge", owner=OWNER)
    kernel = WithoutAddresses.holding([link])
    converge(Change.of(state([other]), state([link, addr])), kernel, mine)
    assert list(kernel.things) == [other.key]


def test_what_comes_does_not_come_in_part() -> None:
    link = Link(name="b0", kind="bridge", owner=OWNER)
    addr = Addr(dev="b0", address=IPv4Interface("10.0.0.1/24"), owner=OWNER)
    kernel = WithoutAddresses()
    with pytest.raises(Unreachable):
        converge(Change.of(state([link, addr])), kernel, mine)
    assert not kernel.things


class Breaks(FakeKernel):
    """Raises `error` at a step, before or after its effect, or at the n-th call of `observe`."""

    error: BaseException = OSError(28, "No space left on device")
    at: int = -1
    after: bool = False
    look: int = -1

    def _step(self, op: Op) -> None:
        self.at -= 1
        if self.at == -1 and not self.after:
            raise self.error
        super()._step(op)
        if self.at == -1:
            raise self.error

    def observe(self, keys: Iterable[Key]) -> State:
        self.look -= 1
        if self.look == -1:
            raise self.error
        return super().observe(keys)


def _replacing() -> tuple[State, State]:
    """Return both states of a change: a bridge and an address go, a pair and an address come."""
    ns = Netns(path=f"{NETNS}/a", owner=OWNER)
    kept = Link(name="b0", kind="bridge", owner=OWNER)
    removed = [Link(name="b1", kind="bridge", owner=OWNER),
            Addr(dev="b1", address=IPv4Interface("10.1.0.1/24"), owner=OWNER)]  # fmt: skip
    pair = Link(name="v", kind="veth", peer=Peer(ns=ns.path, name="eth0"), master="b0", owner=OWNER)
    come = [pair, Addr(dev="b0", address=IPv4Interface("10.2.0.1/24"), owner=OWNER)]
    return state([ns, kept, *removed]), state([ns, replace(kept, mtu=1400), *come])


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("defect"), KeyError("x")]
)
def test_any_error_at_any_step_undoes_every_step(error: Exception) -> None:
    before, want = _replacing()
    for after in (False, True):
        for step in range(6):
            kernel = Breaks.holding(before.values())
            there = dict(kernel.things)
            kernel.error, kernel.at, kernel.after = error, step, after
            if step == 5:
                assert len(converge(Change.of(want, before), kernel, mine)) == 5
                continue
            with pytest.raises(type(error)) as raised:
                converge(Change.of(want, before), kernel, mine)
            assert raised.value is error
            assert kernel.things == there, (step, after)


def test_a_look_that_fails_after_the_steps_undoes_them() -> None:
    before, want = _replacing()
    kernel = Breaks.holding(before.values())
    there = dict(kernel.things)
    kernel.look = 1
    with pytest.raises(OSError, match="No space left"):
        converge(Change.of(want, before), kernel, mine)
    assert kernel.things == there


def test_what_a_silent_kernel_does_not_report_is_looked_up() -> None:
    before, want = _replacing()
    kernel = Breaks.holding(before.values())
    there = dict(kernel.things)
    kernel.error, kernel.at, kernel.after = KernelError("no answer in 20 s", unsure=True), 3, True
    with pytest.raises(KernelError, match="no answer"):
        converge(Change.of(want, before), kernel, mine)
    assert kernel.things == there
