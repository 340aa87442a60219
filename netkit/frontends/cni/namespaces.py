"""Network namespaces of containers: by path, and by identity ("DEVICE:INODE").

A path may lead to another namespace later: the identity distinguishes them.
"""

from __future__ import annotations

from collections.abc import Callable

from netkit.frontends.cni.environment import Call
from netkit.frontends.cni.errors import OWN_NAMESPACE, UNKNOWN_CONTAINER, CniError
from netkit.spec import Sandbox

OWN_NS = "/proc/self/ns/net"


class Namespaces:
    """`identity`: of the namespace at a path, "" where there is none."""

    def __init__(self, identity: Callable[[str], str]) -> None:
        self._identity = identity

    def of(self, call: Call, seen: str) -> str:
        """The identity of the container's namespace.  CniError where there is none to be used.

        `seen`: the identity that the caller sees, "" if it is the daemon itself.
        """
        found = self._identity(call.netns)
        if not found:
            raise CniError(
                UNKNOWN_CONTAINER,
                f"no network namespace at {call.netns}"
                + (": netkitd does not see the mounts of who calls it" if seen else ""),
            )
        if seen and seen != found:
            raise CniError(
                UNKNOWN_CONTAINER,
                f"{call.netns} is another namespace for netkitd than for who calls it",
            )
        if found == self._identity(OWN_NS) and not call.any_netns:
            raise CniError(
                OWN_NAMESPACE, f"{call.netns} is the namespace of netkitd, not a container's"
            )
        return found

    def lives(self, box: Sandbox) -> bool:
        """Is the sandbox's path still that of its own namespace?"""
        return bool(box.nsid) and self._identity(box.ns) == box.nsid
