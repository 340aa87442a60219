"""Create, change and delete links, addresses, routes and neighbours, many in one send.

The kernel goes on after a request of a batch that failed.  So links are created with an index
that we choose, free when we looked a moment before and no other link's of the batch: what follows
names the index and never hits a link that was there before; and what took effect after the first
failure is taken back at once.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.netlink import kinds, observe, removal, rtnl, tap
from netkit.kernel.netlink.codec import Reply, Request
from netkit.kernel.netlink.moved import remove_moved
from netkit.kernel.session import OPEN_AT_ONCE, Session
from netkit.model import (
    HOST,
    PORT_FLAGS,
    Addr,
    ConnectedRoute,
    Fdb,
    Link,
    Neigh,
    Resource,
    Route,
    changed,
)
from netkit.reconcile.plan import Op

# Two indexes in a row for a pair.  Far above what the kernel counts to, readable in `ip link`.
INDEXES = range(1 << 16, 1 << 24, 2)
GROUPS = range(1 << 20, 1 << 31)
TRIES = 8  # times in a row that indexes are drawn, and that links of others took one meanwhile
GONE = frozenset({errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT})
TAKEN = frozenset({errno.EEXIST, errno.EBUSY})


@dataclass(slots=True)
class Job:
    """One op as requests: first in the namespace of the thing, then where its peer is."""

    op: Op
    ns: str
    near: list[Request] = field(default_factory=list)
    far_ns: str = ""
    far: list[Request] = field(default_factory=list)
    forgive: frozenset[int] = frozenset()  # these mean: it is as we want it already
    born: int = 0  # the index of the link this makes
    doomed: int = 0  # and of the link this removes
    tap: int = -1  # a descriptor of the link this makes: it goes when that is closed
    replies: list[Reply] = field(default_factory=list)

    @property
    def failure(self) -> Reply | None:
        bad = (r for r in self.replies if r.errno and r.errno not in self.forgive)
        return next(bad, None)

    @property
    def touched(self) -> bool:
        """Whether anything took effect.  For a link that was not made nothing of it did."""
        if self.born:
            return bool(self.replies) and self.replies[0].errno == 0
        return any(r.errno == 0 for r in self.replies)


def apply(session: Session, ops: Sequence[Op]) -> None:
    """All of `ops`, or KernelError whose `done` counts those that remain done: the leading ones."""
    done = tries = 0
    while done < len(ops):
        try:
            for run in _runs(ops[done:]):
                _run(session, run)
                done, tries = done + len(run), 0
        except _Taken as e:
            done, tries = done + e.done, 1 if e.done else tries + 1
            if tries == TRIES:
                raise KernelError(str(e), errno=e.errno, done=done) from e
        except KernelError as e:
            e.done += done
            raise


class _Taken(KernelError):
    """The index we chose is another link's."""


def _runs(ops: Sequence[Op]) -> Iterator[Sequence[Op]]:
    """Links by themselves, for other things need them first; and their ends, too."""
    start = 0
    for i in range(1, len(ops) + 1):
        ends = i == len(ops) or i - start == OPEN_AT_ONCE or _sort(ops[i]) != _sort(ops[start])
        if ends or _hangs_on(ops[i], ops[start:i]):
            yield ops[start:i]
            start = i


def _hangs_on(op: Op, before: Iterable[Op]) -> bool:
    """Whether one of `before` makes its parent: the order of namespaces in a run is not fixed."""
    r = op.after
    if not isinstance(r, Link) or r.parent is None:
        return False
    return any(b.after is not None and b.after.key == ("link", HOST, r.parent) for b in before)


def _sort(op: Op) -> tuple[bool, bool]:
    link = isinstance(op.subject, Link)
    return link, link and op.after is None


def _run(session: Session, ops: Sequence[Op], *, retreat: bool = True) -> None:
    session.forget_links()  # the run before has changed them
    with session.files(_far_namespaces(ops)) as files:
        jobs, trouble = _jobs(session, ops, files)
        try:
            if not _removed_at_once(session, jobs):
                _send(session, jobs)
            _keep_taps(jobs)
        finally:
            for job in jobs:
                if job.tap >= 0:
                    os.close(job.tap)
    session.forget_links()
    failed = next((i for i, job in enumerate(jobs) if job.failure), None)
    if failed is None and trouble is None:
        _note(session, ops, jobs)
        return
    if failed is None:
        assert trouble is not None
        trouble.done = len(jobs)
        raise trouble
    error = _error(session, jobs[failed])
    error.done = failed
    # The kernel went on after the failure.  What took effect behind it is taken back here, so that
    # `done` is exact: all before it, nothing after it.
    for job in reversed(jobs[failed:]):
        if job.touched and retreat:
            _take_back(session, job, error)
    raise error


def _note(session: Session, ops: Sequence[Op], jobs: Sequence[Job]) -> None:
    """Note what the links are that were made, so that what follows need not look for them.

    No other link gets such an index: the kernel counts up from 1.  One that a step changed or
    removed is looked for again.
    """
    for op, job in zip(ops, jobs, strict=True):
        r = op.subject
        if not isinstance(r, Link):
            continue
        ends = [(r.ns, r.name)] + ([(r.peer.ns, r.peer.name)] if r.peer else [])
        for n, end in enumerate(ends):
            session.made.pop(end, None)
            if job.born:
                session.made[end] = job.born + n


def _jobs(
    session: Session, ops: Sequence[Op], files: Mapping[str, int]
) -> tuple[list[Job], KernelError | None]:
    """The jobs up to the first that cannot be tried, and why that is."""
    jobs: list[Job] = []
    made = dict(session.made)
    indexes = iter(_free_indexes(session, ops))
    for op in ops:
        try:
            job = _job(session, op, made, files, indexes)
        except KernelError as e:
            return jobs, e
        if job.born:
            made[job.ns, op.subject.key[2]] = job.born
        jobs.append(job)
    return jobs, None


def _free_indexes(session: Session, ops: Sequence[Op]) -> list[int]:
    """An index for each link that `ops` make, in order: all different, and no link's now.

    Looks at every link the jobs will name on the way.  KernelError if there are none.
    """
    born = [op.after for op in ops if op.before is None and isinstance(op.after, Link)]
    found: dict[int, int] = {}  # place in `born` -> index
    waiting = list(range(len(born)))
    for attempt in range(TRIES):
        # As many as are needed at first, then four times as many each time: a range that is nearly
        # full is looked at whole before it is reported as used up.
        numbers = _draw(len(waiting) * 4**attempt, found.values())
        places = {(born[n].ns, _is_pair(born[n])): born[n] for n in waiting}
        _look(session, () if attempt else ops, product(places.values(), numbers))
        for n in waiting:
            free = (i for i, x in enumerate(numbers) if not _is_taken(session, born[n], x))
            if (at := next(free, None)) is not None:
                found[n] = numbers.pop(at)
        waiting = [n for n in waiting if n not in found]
        if not waiting:
            return [found[n] for n in range(len(born))]
    raise KernelError(f"no free interface index found in {TRIES} draws", errno=errno.EBUSY)


def _draw(count: int, without: Iterable[int] = ()) -> list[int]:
    """At most `count` different indexes; fewer if the range has no more besides `without`."""
    used = set(without)
    return [n for n in random.sample(INDEXES, min(count, len(INDEXES))) if n not in used]


def _is_taken(session: Session, r: Link, index: int) -> bool:
    """Whether a link has the index, or the next one, for a far end in the same namespace."""
    if not session.exists(r.ns):
        return False  # reported by the job itself
    return any(session.link(r.ns, i) for i in range(index, index + 1 + _is_pair(r)))


def _is_pair(r: Link) -> bool:
    """Whether both ends are in one namespace."""
    return r.peer is not None and r.peer.ns == r.ns


def _look(session: Session, ops: Sequence[Op], born: Iterable[tuple[Link, int]] = ()) -> None:
    """Read the links the jobs will name, but those just made; and users of the indexes.

    One batch a namespace.
    """
    names: dict[str, set[str | int]] = {}
    for link, index in born:
        names.setdefault(link.ns, set()).update(range(index, index + 1 + _is_pair(link)))
    for r in (r for op in ops for r in (op.before, op.after) if r):
        match r:
            case Link():
                names.setdefault(r.ns, set()).update(n for n in (r.name, r.master) if n)
                names.setdefault(HOST, set()).update(n for n in (r.parent,) if n)
            case Addr() | ConnectedRoute() | Route() | Neigh() | Fdb():
                if (r.ns, r.dev) not in session.made:
                    names.setdefault(r.ns, set()).add(r.dev)
    for ns, which in names.items():
        if session.exists(ns):
            session.look(ns, which)


def _far_namespaces(ops: Sequence[Op]) -> list[str]:
    ends = (op.after.peer for op in ops if isinstance(op.after, Link) and op.before is None)
    return sorted({p.ns for p in ends if p})


def _send(session: Session, jobs: Sequence[Job]) -> None:
    """Namespace by namespace; within one, in order.  Peers last: they need their pair."""
    # Far ends are set up in their namespace by an index that exists once the pair does: second
    # round.
    for near in (True, False):
        todo: dict[str, list[tuple[Job, Request]]] = {}
        for job in jobs:
            ns, requests = (job.ns, job.near) if near else (job.far_ns, job.far)
            if near or not job.failure:
                todo.setdefault(ns, []).extend((job, r) for r in requests)
        for ns, pairs in todo.items():
            if not pairs:
                continue
            replies = session.netlink(ns).run([r for _, r in pairs])
            for (job, _), reply in zip(pairs, replies, strict=True):
                job.replies.append(reply)


def _keep_taps(jobs: Sequence[Job]) -> None:
    """Let those stay that have their mark; the others go with their descriptors."""
    for job in jobs:
        if job.tap >= 0 and not job.failure:
            tap.keep(job.tap)


def _removed_at_once(session: Session, jobs: Sequence[Job]) -> bool:
    """Delete links at once, several as one group with a random number that no other tool uses.

    False, and nothing is certain, where one of them is refused: each is then tried by itself.
    """
    # Each DELLINK by itself waits until the stack has released the device, a group waits once: see
    # rtnl.del_group.
    doomed = [job.doomed for job in jobs if job.doomed]
    if not doomed or len({job.ns for job in jobs}) > 1:
        return False
    group = random.choice(GROUPS)
    requests = [rtnl.del_link(doomed[0])]
    if len(doomed) > 1:
        requests = [rtnl.join_group(n, group) for n in doomed] + [rtnl.del_group(group)]
    replies = removal.delete(session, jobs[0].ns, doomed, requests)
    last = {0} if len(doomed) > 1 else {0, *GONE}
    return replies[-1].errno in last and all(r.errno in {0, *GONE} for r in replies)


def _error(session: Session, job: Job) -> KernelError:
    bad = job.failure
    assert bad is not None
    r = job.op.subject
    message = f"{job.op} failed: {bad.reason}"
    if job.born and bad is job.replies[0] and bad.errno in TAKEN and isinstance(r, Link):
        there = session.link(r.ns, r.name)
        far = session.link(r.peer.ns, r.peer.name) if r.peer else None
        if not there and not far:
            remove_moved(session, r)  # before the next attempt
            return _Taken(message, errno=bad.errno)
    return KernelError(message, errno=bad.errno)


def _take_back(session: Session, job: Job, error: KernelError) -> None:
    try:
        if job.born:
            _remove_born(session, job)
        else:
            _run(session, (job.op.inverse(),), retreat=False)
    except KernelError as bad:
        error.add_note(f"could not undo {job.op}: {bad}")


def _remove_born(session: Session, job: Job) -> None:
    """Remove the link that the job made, and no other that has its index or its name by now."""
    # Another tool may have deleted it since, and a third link have its index by now.
    seen = session.link(job.ns, job.born)
    if seen is None or seen.name != job.op.subject.key[2]:
        return
    if seen.alias not in {"", job.op.subject.owner or ""}:
        return
    reply = session.netlink(job.ns).run([rtnl.del_link(job.born)])[0]
    session.forget_links()
    if reply.errno not in GONE:
        reply.check(f"take back {job.op}")


# -- one op as requests ----------------------------------------------------------


def _job(
    session: Session,
    op: Op,
    made: Mapping[tuple[str, str], int],
    files: Mapping[str, int],
    indexes: Iterator[int],
) -> Job:
    def index(ns: str, name: str) -> int | None:
        seen = session.link(ns, name) if (ns, name) not in made else None
        return seen.index if seen else made.get((ns, name))

    match op.before, op.after:
        case None, Link() as after:
            job = Job(op, after.ns, born=next(indexes))
            master = _master(after, index)  # first: what fails later would leave a tap open
            if after.kind == "veth":
                _make_pair(job, after, files)
            elif after.kind == kinds.TAP:
                _make_tap(job, after, session)
                if job.tap < 0:
                    return job
            else:
                _make_link(job, after, session, index)
            return _set_up(job, after, master)
        case Link() as before, None:
            return _removal(session, op, before)
        case Link() as before, Link() as after:
            return _update(session, op, before, after, index)
    return _on_dev(session, op, index)


Index = Callable[[str, str], int | None]


def _master(r: Link, index: Index) -> int | None:
    if r.master is None:
        return None
    found = index(r.ns, r.master)
    if found is None:
        raise _missing(f"+ {r}", r.master, r.ns)
    return found


def _make_pair(job: Job, r: Link, files: Mapping[str, int]) -> None:
    if r.peer is None:
        raise KernelError(f"{job.op} failed: a veth needs a peer", errno=errno.EINVAL)
    if r.peer.ns != r.ns and r.peer.ns not in files:
        raise KernelError(f"{job.op} failed: no namespace {r.peer.ns}", errno=errno.ENOENT)
    fd = files[r.peer.ns] if r.peer.ns != r.ns else None
    mtu, gso = r.mtu, r.gso_max_size or None
    peer = rtnl.far_end(r.peer.name, job.born + 1, fd, mtu=mtu, mac=r.peer.mac, gso=gso)
    job.near.append(rtnl.veth(r.name, job.born, peer, mtu=mtu, mac=r.mac, gso=gso))
    job.far_ns, job.far = r.peer.ns, [rtnl.set_link(job.born + 1, up=True)]


def _make_tap(job: Job, r: Link, session: Session) -> None:
    """Make it now: what it is given goes with the other requests."""
    if r.options or r.parent:
        raise KernelError(f"{job.op} failed: a tap has no options or parent", errno=errno.EINVAL)
    try:
        job.tap = tap.make(session.path(r.ns), r.name, job.born)
    except OSError as e:
        job.replies.append(Reply(e.errno or errno.EIO))
        return
    job.replies.append(Reply())
    if r.mtu is not None or r.mac is not None or r.gso_max_size is not None:
        made = rtnl.set_link(job.born, mtu=r.mtu, mac=r.mac, gso=r.gso_max_size)
        job.near.append(made)


def _make_link(job: Job, r: Link, session: Session, index: Index) -> None:
    """Requests to make a link from its namespace, so that its mark follows in the same send."""
    if r.kind is None:
        raise KernelError(f"{job.op} failed: of which kind?", errno=errno.EINVAL)
    try:
        data = kinds.encode(r.kind, r.options)
    except KernelError as e:
        raise KernelError(f"{job.op} failed: {e}", errno=e.errno) from e
    parent = number = None
    if r.parent is not None:
        if (parent := index(HOST, r.parent)) is None:
            raise _missing(str(job.op), r.parent, HOST)
        if not session.exists(r.ns):
            raise KernelError(f"{job.op} failed: no namespace {r.ns}", errno=errno.ENOENT)
        number = session.number_of_host(r.ns) if r.ns != HOST else None
    job.near.append(
        rtnl.link(
            r.name, job.born, r.kind, mtu=r.mtu, mac=r.mac, data=data, parent=parent,
            parent_nsid=number,
        )
    )  # fmt: skip


def _set_up(job: Job, r: Link, master: int | None) -> Job:
    """In the same send as the birth, so that no kill leaves a link without its owner."""
    job.near += _bridge(job.born, r)  # a bridge that is up has joined a group where it snoops
    job.near.append(rtnl.set_link(job.born, alias=r.owner, master=master, up=r.up))
    job.near += _port(job.born, r)
    return job


def _port(index: int, r: Link) -> list[Request]:
    flags = {name: on for name in PORT_FLAGS if (on := getattr(r, name)) is not None}
    return [rtnl.set_port(index, flags)] if flags else []


def _bridge(index: int, r: Link) -> list[Request]:
    settings = {name: on for name in rtnl.BRIDGE if (on := getattr(r, name)) is not None}
    return [rtnl.set_bridge(index, settings)] if settings else []


def _removal(session: Session, op: Op, r: Link) -> Job:
    """Requests to delete a link with the observed mark: another may have the name by now."""
    job = Job(op, r.ns, forgive=GONE)
    seen = session.link(r.ns, r.name) if session.exists(r.ns) else None
    if seen is None:
        return job
    _refuse_strangers(session, op, r, seen)
    job.doomed = seen.index
    job.near.append(rtnl.del_link(seen.index))
    return job


def _refuse_strangers(session: Session, op: Op, r: Link, seen: rtnl.SeenLink) -> None:
    if r.owner and seen.alias != r.owner != observe.owner_of(session, r.ns, seen):
        raise KernelError(
            f"{op} failed: {r.name} now belongs to {seen.alias or 'another tool'}, not {r.owner}",
            errno=errno.EPERM,
        )


def _update(session: Session, op: Op, before: Link, after: Link, index: Index) -> Job:
    """As in `_removal`; a link that another op of the same run makes is ours."""
    names = changed(after, before)
    number = index(after.ns, after.name)
    if number is None:
        raise _missing(str(op), after.name, after.ns)
    if (seen := session.link(after.ns, after.name)) is not None and seen.index == number:
        _refuse_strangers(session, op, before, seen)
    job = Job(op, after.ns)
    moved = "master" in names
    master = (_master(after, index) or 0) if moved else None
    mtu = (after.mtu or None) if "mtu" in names else None
    gso = (after.gso_max_size or None) if "gso_max_size" in names else None
    job.near.append(
        rtnl.set_link(
            number,
            master=master,
            mtu=mtu,
            gso=gso,
            mac=after.mac if "mac" in names else None,
            up=after.up if "up" in names else None,
        )
    )
    if moved or not names.isdisjoint(PORT_FLAGS):  # flags do not survive a move
        job.near += _port(number, after)
    if not names.isdisjoint(rtnl.BRIDGE):
        job.near += _bridge(number, after)
    peer = after.peer or before.peer
    rise = True if "up" in names and after.up else None  # one end that is down is enough
    differs = mtu is not None or gso is not None or rise
    if peer and differs and (far := session.link(peer.ns, peer.name)):
        job.far_ns, job.far = peer.ns, [rtnl.set_link(far.index, mtu=mtu, gso=gso, up=rise)]
    return job


def _on_dev(session: Session, op: Op, index: Index) -> Job:
    """Change what is on one device: one request."""
    r = op.subject
    assert isinstance(r, Addr | ConnectedRoute | Route | Neigh | Fdb)
    if not session.exists(r.ns):
        if op.after is None:
            return Job(op, r.ns)  # it went with its namespace
        raise KernelError(f"{op} failed: no namespace {r.ns}", errno=errno.ENOENT)
    number = index(r.ns, r.dev)
    if number is None:
        if op.after is None:
            return Job(op, r.ns)  # it went with its link
        raise _missing(str(op), r.dev, r.ns)
    if op.after is None:
        end = [] if isinstance(r, ConnectedRoute) else [_end(r, number)]
        return Job(op, r.ns, end, forgive=GONE)
    begin = [_begin(r, number, replace=op.before is not None)]
    # A link that came up in the same change has its connected routes already.
    return Job(op, r.ns, begin, forgive=TAKEN if isinstance(r, ConnectedRoute) else frozenset())


def _begin(r: Resource, index: int, *, replace: bool) -> Request:
    match r:
        case Addr():
            return rtnl.new_addr(index, r.address)
        case ConnectedRoute():
            return rtnl.connected_route(index, r.address)
        case Route():
            return rtnl.new_route(r.dst, index, r.gateway, replace=replace)
        case Neigh():
            return rtnl.new_neigh(index, r.address, r.mac)
        case Fdb():
            return rtnl.new_fdb(index, r.mac)
    raise TypeError(f"not of this family: {r}")


def _end(r: Resource, index: int) -> Request:
    match r:
        case Addr():
            return rtnl.del_addr(index, r.address)
        case Route():
            return rtnl.del_route(r.dst, index, r.gateway)
        case Neigh():
            return rtnl.del_neigh(index, r.address)
        case Fdb():
            return rtnl.del_fdb(index, r.mac)
    raise TypeError(f"not of this family: {r}")


def _missing(what: str, name: str, ns: str) -> KernelError:
    return KernelError(
        f"{what} failed: no link {name} in {ns or 'the host'}: {os.strerror(errno.ENODEV)}",
        errno=errno.ENODEV,
    )


ADAPTER = Adapter(
    types=(Link, Addr, ConnectedRoute, Route, Neigh, Fdb),
    kinds=observe.TYPES,
    observe=observe.observe,
    apply=apply,
    owned=observe.owned,
    placed=True,
    looks_around=True,  # for the other end of a pair
)
