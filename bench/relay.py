"""The relay of impaired links beside the same link without it, in paired rounds.  Needs root.

One TCP connection between two plain hosts of a lab: the veth pairs and bridge alone; the relay with
a delay of a microsecond, where frames of segmentation offload go through whole; and with a share of
corrupted packets so small that none is met, where each packet goes through by itself.

    python -m bench.relay [--rounds 5] [--seconds 2]
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from socket import AF_INET, SOCK_STREAM

from netkit.kernel import netns
from netkit.lab import impairing, links
from netkit.lab.impairment_request import ImpairmentRequest
from netkit.lab.journal import only_one
from netkit.lab.running import RunningLab

LAB, LINK, ADDRESS = "labs/impaired-link", "a@eth1", "10.0.1.2"
CHUNK = 1 << 18
WAYS = {
    "without a relay": ImpairmentRequest(values={}, clear=True),
    "relay, frames whole": ImpairmentRequest(values={"delay": "1us"}, clear=True),
    "relay, packet by packet": ImpairmentRequest(values={"corrupt": "0.0000001%"}, clear=True),
}


def impair(lab: RunningLab, name: str, request: ImpairmentRequest) -> None:
    found = links.chosen(lab.lab, name)
    with only_one(lab.places):
        now = impairing.wanted(lab.lab, lab.places)
        new = links.changed_by(lab.lab, now, found, request)
        impairing.change(lab.places, new)
        impairing.settle(lab.lab, lab.places, links=new.keys())


def transfer(source: str, target: str, address: str, seconds: float) -> float:
    """Mbit/s that arrive of one connection."""
    got = [0.0]
    with (
        netns.open_socket(target, AF_INET, SOCK_STREAM) as listener,
        netns.open_socket(source, AF_INET, SOCK_STREAM) as sender,
    ):
        listener.bind((address, 0))
        listener.listen(1)

        def receive() -> None:
            connection, _ = listener.accept()
            with connection:
                buffer, count, begin = bytearray(1 << 20), 0, time.monotonic()
                while taken := connection.recv_into(buffer):
                    count += taken
                got[0] = count * 8 / (time.monotonic() - begin) / 1e6

        thread = threading.Thread(target=receive)
        thread.start()
        sender.connect(listener.getsockname())
        data, end = b"x" * CHUNK, time.monotonic() + seconds
        while time.monotonic() < end:
            sender.sendall(data)
        sender.close()
        thread.join()
    return got[0]


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.relay")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2.0)
    asked = options.parse_args()
    lab = RunningLab(LAB, "bench-relay")
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    lab.up()
    try:
        impair(lab, "b@eth1", ImpairmentRequest(values={}, clear=True))  # lab.yml limits its rate
        for _ in range(asked.rounds):
            for name, request in WAYS.items():
                impair(lab, LINK, request)
                rate = transfer(lab.a.netns, lab.b.netns, ADDRESS, asked.seconds)
                found[name].append(rate)
    finally:
        lab.down()
    bare = found["without a relay"]
    for name, rates in found.items():
        ratio = statistics.median(a / b for a, b in zip(rates, bare, strict=True))
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        print(f"{name:26}{statistics.median(rates):9.0f} Mbit/s ({spread}){ratio:8.2f}")


if __name__ == "__main__":
    main()
