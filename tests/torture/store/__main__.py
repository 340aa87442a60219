"""Break an engine's store:  python -m tests.torture.store --kills 200 --cuts 200 --full 200.

The store is filled by several clients: pull, load, import, commit, build, a volume's first use,
removal.  --kills: SIGKILL of the daemon at a random instant.  --cuts: power cuts, a copy of its
disk at a random instant, mounted elsewhere with a new boot.  --full: the disk is full again and
again.  After each the store must open, what was acknowledged be there, and what was not be whole or
gone; at the end all is removed, and nothing may be left.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sys
import time

from tests.torture.store.run import Report, cuts, fills, kills


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="torture.store", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for name in ("kills", "cuts", "full"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up
    for run, count in ((kills, options.kills), (cuts, options.cuts), (fills, options.full)):
        if not count:
            continue
        print(f"{run.__name__}: {count}, seed {options.seed}", flush=True)
        begin = time.monotonic()
        try:
            report: Report = run(count, random.Random(options.seed), _print)
        except AssertionError as broken:
            print(f"{run.__name__}: FAILED with --seed {options.seed}: {broken}", file=sys.stderr)
            print("\n".join(getattr(broken, "__notes__", ())), file=sys.stderr)
            return 1
        _print(f"{run.__name__}: {report} in {time.monotonic() - begin:.0f} s")
    return 0


def _print(text: str) -> None:
    print(text, flush=True)


sys.exit(main())
