"""Programs of a lab's hosts that are found from outside."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from pathlib import Path

from netkit.lab.openvswitch import OpenVSwitch
from netkit.lab.running import RunningLab


def switch_of(lab: RunningLab, host: str) -> OpenVSwitch:
    return OpenVSwitch(lab.places.netns(host), Path(lab.places.ovs(host)))


def server(lab: RunningLab, host: str) -> int:
    """Return the pid of a host's server of the cluster; 0 if it does not run."""
    folder = Path(lab.places.run(host)) / "cluster"
    with suppress(OSError, ValueError):
        pid = int((folder / "ovsdb-server.pid").read_text())
        if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return 0


def leads(lab: RunningLab, host: str, folder: str, database: str) -> bool:
    """Whether the host's server in that folder leads the database."""
    control = str(Path(lab.places.run(host)) / folder / "control")
    asked = subprocess.run(
        ["ovs-appctl", "--timeout=2", "-t", control, "cluster/status", database],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return re.search("^Role: leader", asked.stdout, re.MULTILINE) is not None
