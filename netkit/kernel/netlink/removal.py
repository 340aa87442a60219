"""Delete links without waiting for what the kernel does once they have left their namespace.

The answer to RTM_DELLINK comes after an RCU barrier, some 10 to 20 ms later than the announcement
of the deletion; by then the link receives and sends nothing, its addresses and routes are deleted,
and its name and index are free.  So the request is made on another thread, and the caller returns
with the announcements, after a look that confirms them; or with the answer where that is earlier,
as a refusal is.  Source: net/core/dev.c, unregister_netdevice_many_notify, netdev_run_todo.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future

from netkit import threads
from netkit.kernel import netns
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import HEADER, IFINFO, Netlink, Reply, Request
from netkit.kernel.session import Session

RTMGRP_LINK = 1  # linux/rtnetlink.h
AT_ONCE = 16  # threads that wait for the kernel; beyond that the caller waits itself
_free = threading.BoundedSemaphore(AT_ONCE)


def delete(
    session: Session, ns: str, indexes: Collection[int], requests: Sequence[Request]
) -> list[Reply]:
    """Send `requests`, which delete these links of `ns`: the kernel's replies.

    All are successes where the links are seen to be gone before they were answered.
    """
    if not _free.acquire(blocking=False):
        return session.netlink(ns).run(requests)
    try:
        watch = _announcements(session.path(ns))
        asking = _Asking(session.separate_netlink(ns), requests)
    except BaseException:
        _free.release()
        raise
    with watch:
        try:
            if _announced(watch, set(indexes), asking) and _gone(session, ns, indexes):
                return [Reply() for _ in requests]
            return asking.answer.result()
        finally:
            os.close(asking.bell)


class _Asking:
    """A thread that sends requests and waits for the answer; `bell` is readable once it is there.

    It may outlive the call by the time of an RCU barrier.
    """

    def __init__(self, netlink: Netlink, requests: Sequence[Request]) -> None:
        self.answer: Future[list[Reply]] = Future()
        self.bell, self._rope = os.pipe2(os.O_CLOEXEC)
        self._netlink, self._requests = netlink, requests
        threads.once("netkit-unlink", self._ask).start()

    def _ask(self) -> None:
        try:
            self.answer.set_result(self._netlink.run(self._requests))
        except BaseException as error:  # noqa: BLE001  raised where the answer is awaited
            self.answer.set_exception(error)
        finally:
            self._netlink.close()
            os.close(self._rope)  # the end of the pipe is readable, whether or not it is read
            _free.release()


def _announcements(path: str) -> socket.socket:
    """A socket that receives what is announced of links in the namespace at `path`."""
    watch = netns.open_socket(path, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        watch.bind((0, RTMGRP_LINK))
        watch.setblocking(False)
    except BaseException:
        watch.close()
        raise
    return watch


def _announced(watch: socket.socket, waiting: set[int], asking: _Asking) -> bool:
    """Wait until all of `waiting` are announced as deleted; False if there is an answer before."""
    poll = select.poll()
    for fd in (watch.fileno(), asking.bell):
        poll.register(fd, select.POLLIN)
    while waiting:
        if any(fd == asking.bell for fd, _ in poll.poll()):
            return False
        try:
            waiting -= _deleted(watch.recv(1 << 16))
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more was announced than fits
                raise
            return False
    return True


def _deleted(data: bytes) -> set[int]:
    """Indexes of links whose deletion is announced; a port that leaves a bridge is not deleted."""
    found: set[int] = set()
    offset = 0
    while offset + HEADER.size + IFINFO.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, offset)
        family, (_, _, index, _, _) = data[offset + 16], IFINFO.unpack_from(data, offset + 16)
        if kind == rtnl.DELLINK and family == socket.AF_UNSPEC:
            found.add(index)
        offset += (length + 3) & ~3
    return found


def _gone(session: Session, ns: str, indexes: Collection[int]) -> bool:
    replies = session.netlink(ns).run([rtnl.get_link(i) for i in indexes])
    return all(reply.errno == errno.ENODEV for reply in replies)


__all__ = ["delete"]
