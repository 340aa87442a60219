"""Measure netkit beside dockerd and podman on this machine:  python -m bench [--quick].

Each engine runs in a network namespace of its own with folders of its own; engines are measured
in turn, measure by measure, so that the noise of the machine affects them alike; "floor" is the
same work by hand, see `floors`.  Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

from bench import crowds, firewall, redirects
from bench.measures import QUICK, Measure, Scale, measures
from bench.peers import NAMES, Peer, available, start
from bench.table import Row, render


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to try it out")
    parser.add_argument("--peers", default=",".join(NAMES), help="comma separated")
    parser.add_argument("--only", default="", help="measures whose name matches this expression")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print(
            "bench: needs root for namespaces and containers (run: sudo make bench)",
            file=sys.stderr,
        )
        return 1
    scale = QUICK if options.quick else Scale()
    found = available(options.peers.split(","))
    for name, why in found.items():
        if why:
            print(f"bench: {name} is left out: {why}", flush=True)
    names = [name for name, why in found.items() if not why]
    if not names:
        return 1
    chosen = [
        m
        for part in (measures, crowds.measures, firewall.measures, redirects.measures)
        for m in part(scale)
        if re.search(options.only, m.name)
    ]
    rows = []
    with ExitStack() as stack:
        peers = _started(stack, names)
        names = [peer.name for peer in peers]
        for measure in chosen:
            samples = {peer.name: _sample(measure, peer, scale) for peer in peers}
            samples["floor"] = _floor(measure, peers, scale)
            rows.append(Row(measure, samples))
    print("\n" + render(rows, [*names, "floor"]))
    if options.json:
        options.json.write_text(
            json.dumps({row.measure.name: dict(row.samples) for row in rows}, indent=1)
        )
    return 0 if all(row.samples["netkit"] for row in rows if "netkit" in names) else 1


def _started(stack: ExitStack, names: list[str]) -> list[Peer]:
    """Start the engines; those that fail are left out, except netkit."""
    peers = []
    for name in names:
        try:
            peers.append(stack.enter_context(start(name)))
        except Exception as error:
            if name == "netkit":
                raise
            print(f"bench: {name} is left out: it does not start: {error}", flush=True)
    return peers


def _floor(measure: Measure, peers: list[Peer], scale: Scale) -> list[float]:
    """Samples of the same work by hand, beside netkit; none where there are none."""
    ours = next((peer for peer in peers if peer.name == "netkit"), None)
    if measure.floor is None or ours is None:
        return []
    print(f"bench: {measure.name}: floor", flush=True)
    return measure.floor(ours, scale.repeats)


def _sample(measure: Measure, peer: Peer, scale: Scale) -> list[float]:
    """Samples of one measure on one engine; none, with the reason printed, when it fails."""
    print(f"bench: {measure.name}: {peer.name}", flush=True)
    try:
        return measure.sample(peer, scale)
    except Exception as error:  # noqa: BLE001 - one engine's failure must not cost the others' figures
        print(f"bench: {measure.name}: {peer.name} failed: {error}", flush=True)
        return []


if __name__ == "__main__":
    sys.exit(main())
