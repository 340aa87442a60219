"""netkitd: read the configuration, then be the daemon.

The daemon's modules take 0.4 s to import: --version, --help, --validate and what is refused do
without.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from functools import partial

import netkit
from netkit.errors import InvalidSpec, NetkitError

# Allocations until a garbage collection.  A container with thousands of ports allocates and frees
# hundreds of thousands of objects without cycles: by default the collections take a quarter of
# the time.
GC_THRESHOLD = (20_000, 20, 20)


def main(argv: Sequence[str] | None = None) -> None:
    """The console script."""
    given = sys.argv[1:] if argv is None else list(argv)
    if "--version" in given or "-v" in given:
        print(f"netkitd {netkit.__version__}")
        return
    gc.set_threshold(*GC_THRESHOLD)  # before most modules are imported: that is a tenth of 0.4 s
    from runtime.daemon import config_load

    try:
        config = config_load.load(given)
        if "--validate" in given:
            for warning in config.warnings:
                print(f"warning: {warning}", file=sys.stderr)
            print("configuration OK", file=sys.stderr)
            return
        if os.geteuid() != 0:
            raise InvalidSpec("must be root: it makes namespaces, mounts and links")
        from runtime.daemon import process

        process.run(config, partial(config_load.load, given))
    except NetkitError as error:
        raise SystemExit(f"netkitd: {error}") from None


if __name__ == "__main__":
    main()
