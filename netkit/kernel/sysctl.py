"""Kernel settings below /proc/sys, in any network namespace."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from netkit.errors import BadSetting, KernelError
from netkit.kernel import netns
from netkit.kernel.adapter import Adapter
from netkit.kernel.session import Session
from netkit.model import Key, Resource, Sysctl
from netkit.reconcile.plan import Op

REFUSALS = frozenset({errno.ENOENT, errno.EINVAL, errno.ERANGE, errno.EACCES, errno.EPERM})
ROOT = "/proc/sys"  # net/ in it shows the namespace of the thread that looks
LONGEST = 1 << 16  # bytes of a value


def observe(session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
    """Those that exist; white space in a value is one blank, as in desired ones."""
    by_ns: dict[str, list[str]] = {}
    for _, ns, name in sorted(keys):
        by_ns.setdefault(ns, []).append(name)
    out: dict[Key, Resource] = {}
    for ns, names in by_ns.items():
        if not session.exists(ns):
            continue
        with netns.inside(session.path(ns)):
            values = [(name, _read(name)) for name in names]
        for name, value in values:
            if value is not None:
                setting = Sysctl(name=name, value=value, ns=ns)
                out[setting.key] = setting
    return out


def apply(session: Session, ops: Sequence[Op]) -> None:
    """Set in order; deleting a setting does nothing."""
    for done, op in enumerate(ops):
        if not isinstance(op.after, Sysctl):
            continue
        with _counted(op, done), netns.inside(session.path(op.after.ns)):
            _write(op.after.name, op.after.value)


@contextmanager
def _counted(op: Op, done: int) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        asked = isinstance(op.after, Sysctl) and op.after.asked and e.errno in REFUSALS
        kind = BadSetting if asked else KernelError
        raise kind(f"{op} failed: {e.strerror}", errno=e.errno, done=done) from e
    except KernelError as e:
        e.done = done
        raise


def _read(name: str) -> str | None:
    """Three calls of the kernel; a file object makes eight, some in each change of a network."""
    try:
        fd = os.open(_file(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return " ".join(os.read(fd, LONGEST).decode().split())
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise KernelError(f"cannot read setting {name}: {e.strerror}", errno=e.errno) from e


def _write(name: str, value: str) -> None:
    """In one write(2): the kernel takes each for a whole value."""
    fd = os.open(_file(name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _file(name: str) -> str:
    if ".." in name.split("/") or os.path.isabs(name):
        raise KernelError(f"{name} is no setting below {ROOT}")
    return f"{ROOT}/{name}"


ADAPTER = Adapter(
    types=(Sysctl,), kinds=frozenset({"sysctl"}), observe=observe, apply=apply, placed=True
)
