"""Run the checks of a running lab, all at once.

A check that expects an answer is asked again until it comes or the time is up: services need a
moment.  One that expects none is asked once, afterwards, and counts only beside a positive
control: the target answers the same question when it asks itself, and the source gets answers
from somewhere.  Otherwise silence would prove nothing, and the result is "undetermined".

Many checks are put in parts, after each of which the kernel forgets the neighbours it had to ask
for: it has room for 1,024, and thirty-three containers that ask each other need more.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Literal

from netkit.client.failure import Failure
from netkit.errors import KernelError, NetkitError, NotFound
from netkit.kernel.netlink import neighbours
from netkit.lab.checks import Check
from netkit.lab.facts import Facts, Node
from netkit.lab.probe import PATIENCE, Responder, Seen, listeners, probe
from netkit.lab.tracing import traced

SETTLE_SECONDS = 5.0  # for all services of a lab, from the first check on
ARP_SECONDS = 4.0  # the kernel asks for a neighbour three times, a second each
AGAIN = 0.1  # seconds
AT_ONCE = 32  # probes; each is a socket and a wait
TRACED = 10  # failures that get a trace; the others are mostly of the same kind
PART = 200  # questions; each leaves a neighbour at both its ends
LOOPBACK = "127.0.0.1"
Standing = Literal["pass", "fail", "undetermined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A check with everything filled in: source, address, protocol and port."""

    check: Check
    source: Node
    target: Node | None  # None: an address outside the lab
    address: str
    proto: str
    port: int

    @property
    def service(self) -> str:
        return f"{self.proto}/{self.port}" if self.port else self.proto

    def ask(self, ns: str = "", address: str = "") -> Seen:
        """From the source, or from another namespace, to another address."""
        patience = ARP_SECONDS if self.check.outcome == "unrouted" else PATIENCE
        return probe(
            ns or self.source.netns, self.proto, address or self.address, self.port, patience
        )

    @property
    def responder(self) -> tuple[str, str, int] | None:
        """Where one of ours is to answer: UDP to an address of the target's, if it may answer."""
        if self.proto != "udp" or self.check.outcome == "closed":
            return None
        if self.target is None or not self.target.running:
            return None
        if self.address not in {str(a.ip) for a in self.target.addresses.values()}:
            return None
        return self.target.netns, self.address, self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    question: Question
    seen: Seen | None
    standing: Standing
    control: str = ""  # of one that expects silence: what proves that silence means something
    trace: str = ""  # of one that fails: the verdict of net trace on the same packet, and the fix


def run(facts: Facts, checks: Sequence[Check], within: float = SETTLE_SECONDS) -> list[Result]:
    """A result for each question, in the order of the checks.

    Answers are awaited `within` seconds.  NotFound if a check names an unknown node.
    """
    questions = [q for check in checks for q in _questions(facts, check)]
    deadline = time.monotonic() + within
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe") as pool:
        for place in {place for q in questions if (place := q.responder)}:
            stack.enter_context(Responder(*place))
        wanted = [q for q in questions if not q.check.negative]
        done = _in_parts(pool, wanted, lambda q: _positive(q, deadline))
        answers = {
            r.question.source.name: f"reached {r.question.check.target}"
            for r in done.values() if r.seen and r.seen.reached
        }  # fmt: skip
        silent = [q for q in questions if q.check.negative]
        done |= _in_parts(pool, silent, lambda q: _negative(q, answers))
        failed = [q for q in questions if done[id(q)].standing == "fail"][:TRACED]
        said = dict(
            zip(map(id, failed), pool.map(lambda q: _traced(facts, q), failed), strict=True)
        )
    return [replace(done[id(q)], trace=said.get(id(q), "")) for q in questions]


def _traced(facts: Facts, q: Question) -> str:
    """The verdict of a trace of what was asked; "" where no engine runs."""
    if all(h.daemon is None for h in facts.lab.hosts):
        return ""
    try:
        found = traced(facts, q.source.name, q.address, q.service)
    except (NetkitError, Failure) as error:
        return f"not traced: {error}"
    fix = f"; fix: {found.fix}" if found.fix else ""
    return f"{found.verdict} ({found.code}): {found.words}{fix}"


def _in_parts(
    pool: ThreadPoolExecutor, questions: Sequence[Question], answer: Callable[[Question], Result]
) -> dict[int, Result]:
    """Results by id of the question."""
    done: dict[int, Result] = {}
    for start in range(0, len(questions), PART):
        part = questions[start : start + PART]
        done |= zip(map(id, part), pool.map(answer, part), strict=True)
        if len(questions) > PART:
            ends = {node.netns for q in part for node in (q.source, q.target) if node is not None}
            neighbours.forget(sorted(ends - {""}))
    return done


def _questions(facts: Facts, check: Check) -> Iterator[Question]:
    source = facts.node(check.source)
    target = None if _is_address(check.target) else facts.node(check.target)
    try:
        address = facts.between(source, target, check.where) if target else check.target
    except NotFound:
        address = ""  # of what does not run; the probe will fail
    services = [(check.proto, check.port)]
    if not check.proto:
        open_ports = listeners(target.netns) if target and target.netns else []
        negative = open_ports if check.negative and check.outcome == "blocked" else []
        services = [("icmp", 0), *(("tcp", port) for port in negative)]
    for proto, port in services:
        yield Question(
            check=check, source=source, target=target, address=address, proto=proto, port=port
        )


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _positive(q: Question, deadline: float) -> Result:
    wanted = "closed" if q.check.outcome == "closed" else "open"
    while True:
        try:
            _can_be_asked(q)
            seen = q.ask()
        except NetkitError as error:
            full = isinstance(error, KernelError) and error.errno == errno.ENOBUFS
            if full and time.monotonic() < deadline:
                time.sleep(AGAIN)
                continue
            return Result(question=q, seen=None, standing="undetermined", control=str(error))
        if seen.verdict == wanted:
            return Result(question=q, seen=seen, standing="pass")
        if time.monotonic() > deadline:
            return Result(question=q, seen=seen, standing="fail")
        time.sleep(AGAIN)


def _can_be_asked(q: Question) -> None:
    """NetkitError if not."""
    for node in (q.source, q.target):
        if node is not None and not node.running:
            raise NotFound(f"{node.name} does not run ({node.state})")
    if not q.address:
        where = f" on {q.check.where}" if q.check.where else ""
        raise NotFound(f"{q.check.target} has no address{where}")


def _negative(q: Question, answers: dict[str, str]) -> Result:
    try:
        _can_be_asked(q)
        proofs = [_source_control(q, answers), _target_control(q)]
        seen = q.ask()
    except NetkitError as error:
        return Result(question=q, seen=None, standing="undetermined", control=str(error))
    if seen.reached:
        return Result(question=q, seen=seen, standing="fail", control="it is a leak")
    missing = [why for fine, why in proofs if not fine]
    if missing:
        return Result(question=q, seen=seen, standing="undetermined", control="; ".join(missing))
    exact = q.check.outcome in {"blocked", seen.verdict}
    proof = "; ".join(why for _, why in proofs)
    return Result(question=q, seen=seen, standing="pass" if exact else "fail", control=proof)


def _source_control(q: Question, answers: dict[str, str]) -> tuple[bool, str]:
    """The source gets answers: from another in this run, else from its gateway, else itself."""
    if q.source.name in answers:
        return True, f"{q.source.name} {answers[q.source.name]}"
    for address in q.source.addresses.values():
        gateway = str(address.network.network_address + 1)
        if gateway != str(address.ip) and probe(q.source.netns, "icmp", gateway).reached:
            return True, f"{q.source.name} reached its gateway"
    own = next(iter(q.source.addresses.values()), None)
    address_of_own = str(own.ip) if own else LOOPBACK
    if probe(q.source.netns, "icmp", address_of_own).reached:
        return True, f"{q.source.name} reached itself"
    return False, f"{q.source.name} reaches no address, not even its own"


def _target_control(q: Question) -> tuple[bool, str]:
    """The target answers the same question when it is asked from inside."""
    if q.target is None:
        return True, "the target is not part of this lab"
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        for address in (q.address, LOOPBACK):  # a port published on 127.0.0.1 is alive there
            if q.ask(q.target.netns, address).verdict == "open":
                return True, f"{q.target.name} answers itself"
        if time.monotonic() > deadline:
            return False, f"{q.target.name} does not answer {q.service} even to itself"
        time.sleep(AGAIN)
