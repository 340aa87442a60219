"""How source, target and service are written, for the help of commands, and verdicts in colour."""

from __future__ import annotations

from netkit.cli.table import GREEN, RED, RESET, YELLOW

USAGE = "[OPTIONS] SRC DST [PORT]"
GRAMMAR = """\
SRC, DST:
  CONTAINER[:NETWORK]          a container, at its address on that network, else on one of both
  host                         the host of the engine
  world                        an address outside that no rule names
  ADDRESS                      the holder of this IPv4 address
  lan:ADDRESS[@INTERFACE]      an address outside whose packets come by that interface, or that
  ADDRESS@INTERFACE            port of a bridge
  DST:PORT                     each of them with a port
PORT:
  80, 80/tcp, tcp/80, 53/udp or icmp; tcp unless given, nothing where DST has a port"""
EXPLAINED = f"{GRAMMAR}\nHOST/CONTAINER is one of another host of a weave overlay."
TRACED = f"{GRAMMAR}\n  Nothing at all is icmp."
TONES = {"DELIVERED": GREEN, "UNDETERMINED": YELLOW}


def coloured(text: str, verdict: str) -> str:
    """The text of an answer with the verdict, which begins a line, in colour."""
    lines = text.split("\n")
    tone = TONES.get(verdict, RED)
    for number, line in enumerate(lines):
        if line.startswith(verdict):
            lines[number] = f"{tone}{verdict}{RESET}{line.removeprefix(verdict)}"
            break
    return "\n".join(lines)
