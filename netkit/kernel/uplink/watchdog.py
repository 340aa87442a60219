"""The watchdog of one handover: `python -m netkit.kernel.uplink.watchdog FOLDER DEV TOKEN SECONDS`.

It prints "armed", and waits for its standard input to end, for a signal to end itself, or for the
time to be over.  If the journal is still there then, it undoes what was not confirmed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from netkit.errors import NetkitError
from netkit.kernel.netlink.codec import Netlink
from netkit.kernel.uplink.handover import Desk, recover, space


def main(folder: str, dev: str, token: str, seconds: float) -> int:
    desk = Desk(Path(folder))
    bell, rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(rope)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with Netlink() as netlink:
        print("armed", flush=True)
        select.select([sys.stdin, bell], [], [], seconds)
        with desk.lock(dev):
            try:
                recover(desk, dev, netlink, space(), token)
            except NetkitError as e:
                print(f"could not put {dev} back: {e}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
