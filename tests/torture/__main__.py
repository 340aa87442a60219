"""Kill the daemon again and again under load:  python -m tests.torture --kills 500 --seed 7."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.engine.daemon import Engine
from tests.engine.wire import Wire
from tests.torture.run import survive


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    options = parser.parse_args()
    print(f"torture: {options.kills} kills, seed {options.seed}", flush=True)
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
