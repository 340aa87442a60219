"""`python -P -m netkit.overlay --state FOLDER --run FOLDER`: started by netkit.overlay.service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from netkit.errors import NetkitError
from netkit.overlay.folders import Folders
from netkit.overlay.main import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="netkit.overlay", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder that outlives a reboot")
    parser.add_argument("--run", type=Path, required=True, help="folder of socket, pid and log")
    given = parser.parse_args()
    try:
        run(Folders(given.state, given.run))
    except NetkitError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
