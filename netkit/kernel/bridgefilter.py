"""br_netfilter: the module that shows iptables what is bridged, for those bridges that ask.

Loading it switches net.bridge.bridge-nf-call-* on for every bridge of the host, which is not ours
to do: what was not on before is switched off again, and only our own bridges ask (see
`model.Link.filtered`).  Source: kernel Documentation/networking/ip-sysctl.rst,
/proc/sys/net/bridge/*.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

SETTINGS = Path("/proc/sys/net/bridge")
MODULE = "br_netfilter"
NAMES = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
TIMEOUT = 10  # seconds


def ensure(settings: Path = SETTINGS, modprobe: str = "modprobe") -> str:
    """Make it there; "" or, in one line, why it is not and what does not hold then."""
    if settings.is_dir():
        return ""
    try:
        done = subprocess.run(
            [modprobe, "--quiet", MODULE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _without(str(error))
    if not settings.is_dir():
        return _without(done.stderr.strip() or f"modprobe {MODULE} ended with {done.returncode}")
    for name in NAMES:
        if (settings / name).exists():
            (settings / name).write_text("0")
    return ""


def _without(why: str) -> str:
    return (
        f"the kernel module {MODULE} is not there ({why}): rules on who may reach whom do not hold "
        "between containers of one bridge"
    )
