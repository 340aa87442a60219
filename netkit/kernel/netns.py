"""Network namespaces as files: make, remove, enter, and open sockets inside.

Never by fork: a thread that calls setns(2) or unshare(2) costs 0.02 to 1 ms however large the
process is, a fork of a large daemon 100 ms.  Python has os.setns only from 3.12 on.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netkit.errors import KernelError
from netkit.gone import gone
from netkit.kernel.netlink.codec import Netlink, Request
from netkit.model import HOST

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
NSFS_MAGIC = 0x6E736673  # linux/magic.h
OWN = "/proc/thread-self/ns/net"  # of the calling thread; /proc/self is the main thread's
UP_LOOPBACK = Request.link_up(1)  # the first link of every namespace is lo

_libc = ctypes.CDLL(None, use_errno=True)


def exists(path: str) -> bool:
    """Whether a namespace is mounted at `path`.  A plain file there is the remains of one."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs: f_type is its first word
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return False
    return ctypes.c_long.from_buffer(buffer).value == NSFS_MAGIC


def identity(path: str) -> str:
    """"DEVICE:INODE" (stat(2)) of the namespace at `path`: its own while it lives; "" for none.

    KernelError where that cannot be looked at.
    """
    if not exists(path):
        return ""
    try:
        found = os.stat(path)
    except OSError as error:
        if gone(error):
            return ""
        raise KernelError(f"cannot look at {path}: {error.strerror}", errno=error.errno) from error
    return f"{found.st_dev}:{found.st_ino}"


def present(path: str) -> bool:
    """Whether there is a namespace at `path`, or the remains of one."""
    return os.path.lexists(path)


def create(path: str) -> None:
    """Create a namespace at `path`, its loopback up.  KernelError (EEXIST) if there is one."""
    if exists(path):
        raise KernelError(f"network namespace {path} exists", errno=17)
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
        with _away():
            _check(_libc.unshare(CLONE_NEWNET), f"unshare a network namespace for {path}")
            _check(
                _libc.mount(OWN.encode(), os.fsencode(path), b"none", MS_BIND, None),
                f"mount a network namespace at {path}",
            )
            with Netlink() as own:
                own.run([UP_LOOPBACK])[0].check(f"set the loopback of {path} up")
    except (OSError, KernelError) as e:
        remove(path)
        if isinstance(e, KernelError):
            raise
        raise KernelError(f"cannot make network namespace {path}: {e}", errno=e.errno) from e


def remove(path: str) -> None:
    """Delete the name; the namespace ends with its last process.  No error if absent."""
    _libc.umount2(os.fsencode(path), MNT_DETACH)  # fails where only a plain file is left
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as e:
        raise KernelError(f"cannot remove network namespace {path}: {e}", errno=e.errno) from e


def inside_folder(folder: str) -> list[str]:
    """Paths of all files in a folder of namespaces, mounted or remains; sorted."""
    try:
        return sorted(str(p) for p in Path(folder).iterdir() if not p.is_dir())
    except FileNotFoundError:
        return []


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Move the calling thread, and the processes it starts, into the namespace at `path`.

    Other threads are not affected.  With `path` HOST nothing happens.  KernelError (ENOENT)
    if there is no such namespace.
    """
    if path == HOST:
        yield
        return
    target = open_file(path)
    try:
        with _away():
            _check(_libc.setns(target, CLONE_NEWNET), f"enter network namespace {path}")
            yield
    finally:
        os.close(target)


@contextmanager
def scratch() -> Iterator[None]:
    """Move the calling thread, and the processes it starts, into a new, nameless namespace."""
    with _away():
        _check(_libc.unshare(CLONE_NEWNET), "unshare a scratch network namespace")
        yield


def open_file(path: str) -> int:
    """A descriptor of the namespace at `path`, which the caller closes."""
    try:
        fd = os.open(path if path != HOST else OWN, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise KernelError(f"no network namespace {path}: {e.strerror}", errno=e.errno) from e
    return fd


def open_socket(path: str, family: int, kind: int, proto: int = 0) -> socket.socket:
    """A socket that lives in the namespace at `path`; usable from any thread anywhere."""
    with inside(path):
        return socket.socket(family, kind, proto)


@contextmanager
def _away() -> Iterator[None]:
    """Return the calling thread to its namespace at the end."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        back = _libc.setns(home, CLONE_NEWNET)
        os.close(home)
        _check(back, "return to the own network namespace")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise KernelError(f"cannot {what}: {os.strerror(number)}", errno=number)
