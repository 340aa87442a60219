"""Simulate: `python -m tests.simulation --seed 7`, or `--seeds 1000-2000`.

Of each run that fails the seed is shown: with it the run is the same again, to the last datagram.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.complete import CompleteHost
from tests.simulation.host import Host
from tests.simulation.whole import WholeHost
from tests.simulation.world import Result, World


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one run, and what it did")
    parser.add_argument("--seeds", default="0-100", help="several: first-last")
    parser.add_argument("--peers", type=int, help="in each run; else drawn, 3 to 25")
    parser.add_argument("--whole", action="store_true", help="with real sessions; slower")
    parser.add_argument("--complete", action="store_true", help="with ways and planes, too")
    options = parser.parse_args()
    host = CompleteHost if options.complete else WholeHost if options.whole else Host
    if options.seed is not None:
        print(World(options.seed, options.peers, host).run())
        return 0
    first, _, last = options.seeds.partition("-")
    return many(range(int(first), int(last or first) + 1), options.peers, host)


def many(seeds: range, peers: int | None, host: type[Host]) -> int:
    began, healed = time.monotonic(), []
    failed = 0
    for seed in seeds:
        try:
            healed.append(World(seed, peers, host).run())
        except Exception as error:
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print(summary(healed, time.monotonic() - began))
    return 1 if failed else 0


def summary(results: list[Result], seconds: float) -> str:
    times = sorted(result.healed for result in results) or [0.0]
    events = sum(result.events for result in results)
    return (
        f"{len(results)} runs held, {seconds:.1f} s, {events} events,"
        f" healed within {times[len(times) // 2]:.0f} s (median) {times[-1]:.0f} s (longest)"
    )


if __name__ == "__main__":
    sys.exit(main())
