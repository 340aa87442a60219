"""br_netfilter: the module that passes bridged packets to iptables, by bridge.

Loading it switches net.bridge.bridge-nf-call-* on for every bridge of the host, which is not ours
to do: what was not on before is switched off again, and only our own bridges ask (see
`model.Link.filtered`).  Source: kernel Documentation/networking/ip-sysctl.rst,
/proc/sys/net/bridge/*.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from netkit.kernel import netns
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model import HOST

SETTINGS = Path("/proc/sys/net/bridge")
MODULE = "br_netfilter"
NAMES = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
TIMEOUT = 10  # seconds


def ensure(settings: Path = SETTINGS, modprobe: str = "modprobe") -> str:
    """Load the module; return "" or, in one line, why not and what does not work then."""
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


def shown(link: str, home: str = HOST, settings: Path = SETTINGS) -> str:
    """Return why rules do not see what `link` in `home` bridges; "" if they do.

    As good as seen is what is not bridged, for `link` is no bridge, or not there yet.
    """
    with Session(home, Tally()) as session:
        seen = session.link(HOST, link)
    if seen is None or seen.kind != "bridge":
        return ""
    with netns.inside(home):
        knob = settings / NAMES[0]
        if not knob.exists():
            return (
                f"the kernel module {MODULE} is not there, so that rules do not see what {link} "
                f"bridges: type `modprobe {MODULE}` and restart netkit"
            )
        everywhere = knob.read_text().strip() != "0"
    if everywhere or seen.bridge.get("filtered"):
        return ""
    return (
        f"rules do not see what {link} bridges: "
        f"type `ip link set {link} type bridge nf_call_iptables 1`"
    )


def _without(why: str) -> str:
    return (
        f"the kernel module {MODULE} is not there ({why}): rules on who may reach whom do not hold "
        "between containers of one bridge"
    )
