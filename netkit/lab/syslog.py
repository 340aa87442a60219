"""Receive syslog messages at a socket and append them to a file:  syslog.py SOCKET FILE

podman's clean-up after a container fails where nothing does, on machines without a syslogd.
Returns once it receives; a process of its own goes on.  Sources: syslog(3), unix(7).
"""

from __future__ import annotations

import os
import socket
import sys

MOST = 1 << 16  # bytes of a message
BOUND = 1 << 20  # bytes of the file, which is then begun anew


def main() -> None:
    path, log = sys.argv[1:]
    if os.path.lexists(path):  # of one that was killed
        os.unlink(path)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(path)
    if os.fork():
        return
    os.setsid()
    with open(log, "ab", buffering=0) as file:
        while True:
            file.write(receiver.recv(MOST) + b"\n")
            if file.tell() > BOUND:
                file.truncate(0)


if __name__ == "__main__":
    main()
