"""Kill the daemon again and again under load:  python -m tests.torture --kills 500 --seed 7.

With --lab the hosts of a cluster: their daemons, their Open vSwitches and the cluster's servers.
With --lab ovn also those of OVN, and hosts are cut off.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from netkit.lab.running import RunningLab
from tests.engine.daemon import Engine
from tests.engine.wire import Wire
from tests.torture import labs
from tests.torture.run import survive
from tests.torture.scenes import SCENES


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    parser.add_argument(
        "--lab", nargs="?", choices=sorted(SCENES), const="ovs",
        help="over the hosts of a cluster: of driver ovs unless given",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="leave the lab up if it fails")
    options = parser.parse_args()
    if options.keep and not options.lab:
        parser.error("--keep is for --lab: one engine leaves nothing to look at but its log")
    print(f"torture: {options.kills} kills, seed {options.seed}", flush=True)
    return _lab(options) if options.lab else _engine(options)


def _lab(options: argparse.Namespace) -> int:
    begin, scene = time.monotonic(), SCENES[options.lab]
    lab = RunningLab(str(scene.folder), f"storm-{secrets.token_hex(3)}")
    lab.up()
    failed = True
    try:
        report = labs.survive(
            lab, options.kills, options.seed, lambda r: _print(f"torture: {r}"), scene
        )
        failed = False
    except AssertionError as broken:
        asked = f"--lab {options.lab} --seed {options.seed}"
        print(f"torture: FAILED with {asked}: {broken}", file=sys.stderr)
        print("\n".join(getattr(broken, "__notes__", ())), file=sys.stderr)
        return 1
    finally:
        if failed and options.keep:
            _print(f"torture: lab {lab.name} is left up")
        else:
            lab.down()
    _print(f"torture: {report} in {time.monotonic() - begin:.0f} s: nothing leaked, nothing lost")
    return 0


def _print(text: str) -> None:
    print(text, flush=True)


def _engine(options: argparse.Namespace) -> int:
    begin = time.monotonic()
    wire = Wire.lay()
    try:
        engine = Engine(wire)
        try:
            engine.start()
            engine.load_image()

            def progress(done: int, acknowledged: int) -> None:
                if done % 10 == 0 or done == options.kills:
                    print(f"torture: {done} kills, {acknowledged} requests kept", flush=True)

            report = survive(engine, options.kills, options.seed, progress)
        except AssertionError as broken:
            print(f"torture: FAILED with --seed {options.seed}: {broken}", file=sys.stderr)
            print(engine.log_tail(), file=sys.stderr)
            return 1
        finally:
            engine.destroy()
    finally:
        wire.remove()
    print(f"torture: {report} in {time.monotonic() - begin:.0f} s: nothing leaked, nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
