"""pyroute2's messages over our sockets: our own codec reads the same bytes."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address
from socket import AF_INET

import pytest

from netkit.kernel.netlink import fib, messages, rtnl
from netkit.kernel.netlink.codec import Reply, attr

pytestmark = pytest.mark.slow  # pyroute2 takes 0.3 s to import


def test_a_request_has_the_fields_and_attributes_it_was_given() -> None:
    asked = fib._question(IPv4Address("10.0.0.9"), IPv4Address("10.0.0.1"), fib.FIB_MATCH)
    head = rtnl.ROUTE.pack(AF_INET, 32, 32, 0, 0, 0, 0, 0, fib.FIB_MATCH)
    both = attr(rtnl.RTA_DST, bytes([10, 0, 0, 9])) + attr(2, bytes([10, 0, 0, 1]))
    assert (asked.kind, asked.body) == (rtnl.GETROUTE, head + both)


def test_a_reply_is_read_and_a_refusal_has_no_message() -> None:
    from pyroute2.netlink.rtnl.ndmsg import ndmsg

    payload = rtnl.new_neigh(7, IPv4Address("10.0.0.9"), "02:42:00:00:00:01").body
    found = messages.first(Reply(messages=[payload]), ndmsg)
    assert (found["ifindex"], found.get_attr("NDA_DST")) == (7, "10.0.0.9")
    assert found.get_attr("NDA_LLADDR") == "02:42:00:00:00:01"
    assert messages.first(Reply(errno=errno.ENETUNREACH, messages=[payload]), ndmsg) is None
    assert messages.first(Reply(), ndmsg) is None
