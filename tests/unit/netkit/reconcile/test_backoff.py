"""What another tool keeps changing is repaired with growing pauses, and those are bounded."""

from __future__ import annotations

from netkit.reconcile.backoff import FORGET, INSISTS, LONGEST, Backoff


def waits(backoff: Backoff, thing: str, now: float) -> bool:
    found = backoff.of(thing, now)
    return found is not None and now < found.next


def test_pauses_grow_to_a_bound_and_a_quiet_time_ends_them() -> None:
    backoff, now, pauses = Backoff(), 100.0, []
    for _ in range(14):
        assert not waits(backoff, "mtu of veth1", now)
        attempts = backoff.note("mtu of veth1", now)
        pauses.append(attempts.next - now)
        now = attempts.next
    assert pauses[:5] == [0, 1, 2, 4, 8]
    assert pauses[-1] == LONGEST
    assert not waits(backoff, "master of veth1", now - 1)  # another thing of the same link
    assert waits(backoff, "mtu of veth1", now - 1)
    assert backoff.of("mtu of veth1", now - LONGEST + FORGET) is None
    assert backoff.note("mtu of veth1", now + FORGET).count == 1


def test_what_fails_waits_from_the_first_time_on() -> None:
    backoff = Backoff()
    failed = backoff.note("link veth1", 10.0, "no room")
    assert (failed.next, failed.error, failed.insists) == (11.0, "no room", False)
    assert waits(backoff, "link veth1", 10.5)
    for at in range(20, 20 + INSISTS):
        backoff.note("link veth1", float(at))
    found = backoff.of("link veth1", 30.0)
    assert found is not None
    assert found.insists
    assert found.error == ""
