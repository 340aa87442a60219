"""Transactions of ours are known as ours by the thread that sends them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from netkit.kernel import run
from netkit.kernel.iptables import nft_compat
from netkit.kernel.netlink.codec import Netlink, Reply, Request


class Accepts:
    def __init__(self) -> None:
        self.known: list[bool] = []

    def transaction(self, requests: Sequence[Request]) -> Reply:
        self.known.append(run.ours(threading.get_native_id()))
        return Reply()


def test_the_thread_is_known_before_the_kernel_reports_it() -> None:
    netlink: Any = Accepts()

    def change() -> None:
        netlink.known.append(run.ours(threading.get_native_id()))
        nft_compat.delete(cast(Netlink, netlink), 4, 7, [("filter", "DOCKER", 1)])

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change).result()
    assert netlink.known == [False, True]
