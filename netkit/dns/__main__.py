"""`python -P -m netkit.dns --control PATH`: started by netkit.dns.client."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from netkit.dns.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="netkit.dns", description=__doc__)
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    serve(parser.parse_args().control)


main()
