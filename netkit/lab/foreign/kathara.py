"""A folder of Kathara or Netkit (lab.conf) as a lab: devices as hosts, domains as segments.  Pure.

By the manual pages kathara-lab.conf(5), lab.dep(5), lab.ext(5) and lab-dirs(7).
A device becomes a host without an engine, which runs the programs of this machine.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from netkit.lab.document import LabFile
from netkit.lab.foreign import shell
from netkit.lab.foreign.draft import Draft, Wired

CONF = "lab.conf"
_DEVICE = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)\[(?P<arg>\w+)\]\s*=\s*(?P<value>.*)")
_META = re.compile(r"(?P<name>LAB_\w+)\s*=\s*(?P<value>.*)")
_BLOCK = re.compile(
    r"\s*(if|for|while|until|case|select|function)\b|.*\(\)\s*\{?\s*$|.*<<|\s*\{\s*$"
)
_END = re.compile(r"\s*(fi|done|esac|\})\s*;?\s*$")
MAX_INTERFACES = 100  # eth0 ... of a device
CONTAINERS = "hosts here are network namespaces, not containers"
WHY = {
    **dict.fromkeys(("mem", "cpus", "ulimit", "privileged", "shell", "num_terms"), CONTAINERS),
    **dict.fromkeys(
        ("image", "env", "entrypoint", "args"),
        "hosts here run the programs of this machine, not those of an image",
    ),
    "volume": "hosts here have the files of this machine", "ipv6": shell.NO_IPV6,
    **dict.fromkeys(("port", "bridged"), "a lab does not lead to this machine's network"),
}  # fmt: skip


def read(files: Mapping[str, str], others: Sequence[str], folder: str) -> Draft:
    """`files`: those of the folder itself, by name; `others`: names of its folders, with a slash.

    Raises LabFile where lab.conf is none.
    """
    draft = Draft(source=folder, kind="Kathara")
    reader = _Reader(draft, files)
    reader.conf(files[CONF])
    for name, host in draft.wired.items():
        for script in ("shared.startup", f"{name}.startup"):
            if script in files:
                reader.startup(host, script, files[script])
        for place, command in reader.execs.get(name, []):
            reader.command(host, command, place)
    reader.rest(others)
    draft.finish()
    return draft


class _Reader:
    def __init__(self, draft: Draft, files: Mapping[str, str]) -> None:
        self.draft, self.files = draft, files
        self.domains: dict[str, str] = {}  # collision domain to segment
        self.execs: dict[str, list[tuple[str, str]]] = {}
        self.sysctls: list[tuple[str, str, str]] = []  # device, place, NAME=VALUE

    def conf(self, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            place = f"{CONF}:{number}: {line.strip()}"
            words = line.strip()
            if not words or words.startswith("#"):
                continue
            if meta := _META.fullmatch(words):
                self._meta(meta["name"], _value(meta["value"], place), place)
            elif device := _DEVICE.fullmatch(words):
                self._device(device["name"], device["arg"], _value(device["value"], place), place)
            elif words.startswith("machines="):
                self.draft.omit(place, "the devices are those that have lines of their own")
            else:
                raise LabFile(f"{place}: is no line of {CONF}: DEVICE[OPTION]=VALUE")
        if not self.draft.wired:
            raise LabFile(f"{self.draft.source}: {CONF} has no devices: what is to be imported?")
        for name, place, pair in self.sysctls:
            self.command(self.draft.wired[name], f"sysctl -w {pair}", place)

    def _meta(self, name: str, value: str, place: str) -> None:
        if name == "LAB_DESCRIPTION":
            self.draft.summary = value
        else:
            self.draft.omit(place, "a lab has a summary only")

    def _device(self, name: str, arg: str, value: str, place: str) -> None:
        if name not in self.draft.wired:
            self.draft.wired[name] = Wired(name=self.draft.name(name, place))
        host = self.draft.wired[name]
        if arg.isdecimal():
            self._interface(host, arg, value, place)
        elif arg == "exec":
            self.execs.setdefault(name, []).append((place, value))
        elif arg == "sysctl":
            self.sysctls.append((name, place, value))
        else:
            self.draft.omit(place, WHY.get(arg, "there is nothing like it here"))

    def _interface(self, host: Wired, number: str, value: str, place: str) -> None:
        domain, _, mac = value.partition("/")
        if domain.startswith("tap,"):
            return self.draft.omit(place, "a lab does not lead to this machine's network")
        if not domain or len(number) > 3 or int(number) >= MAX_INTERFACES:
            raise LabFile(f"{place}: is no interface: {host.name}[0]=DOMAIN")
        if domain not in self.domains:
            self.domains[domain] = self.draft.segment(domain)
            if self.domains[domain] != domain:
                self.draft.change(place, f"{domain} is the segment {self.domains[domain]} here")
        name = f"eth{int(number)}"
        if name in host.interfaces:
            raise LabFile(f"{place}: {host.name} has {name} already")
        host.interfaces[name] = {"segment": self.domains[domain]}
        if mac:
            self.command(host, f"ip link set {name} address {mac}", place)
        return None

    def startup(self, host: Wired, file: str, text: str) -> None:
        """Lines of a script; those within if, for, functions and here-documents are left out."""
        depth = 0
        for number, line in enumerate(text.splitlines(), 1):
            words = line.strip()
            place = f"{file}:{number}: {words}"
            if not words or words.startswith("#"):
                continue
            if len(line) > shell.MAX_LINE:
                raise LabFile(f"{place}: has more than {shell.MAX_LINE} characters")
            if _BLOCK.match(line):
                depth += 1
            if depth:
                self.draft.omit(place, f"for {host.name}: a condition, loop or function of a shell")
                depth -= bool(_END.match(line)) or bool(re.search(r"\b(fi|done|esac)\s*$", line))
                continue
            self.command(host, words, place)

    def command(self, host: Wired, line: str, place: str) -> None:
        for command in shell.commands(line):
            self.draft.count(place)
            if why := shell.carry(host, command, place):
                self.draft.omit(place if command == line else f"{place}: {command}", why)

    def rest(self, others: Sequence[str]) -> None:
        """Files and folders that nothing was taken of."""
        used = {CONF, "shared.startup", *(f"{name}.startup" for name in self.draft.wired)}
        why = {"lab.dep": "all hosts start at once, and no program in them",
               "lab.ext": "a lab does not lead to this machine's network"}  # fmt: skip
        for name, text in self.files.items():
            if name in why:
                for number, line in enumerate(text.splitlines(), 1):
                    if line.strip() and not line.strip().startswith("#"):
                        self.draft.omit(f"{name}:{number}: {line.strip()}", why[name])
            elif name not in used:
                known = "nothing runs when a host goes" if name.endswith(".shutdown") else ""
                self.draft.omit(name, known or "no device of lab.conf has this file")
        for name in others:
            self.draft.omit(name, "hosts here have the files of this machine")


def _value(text: str, place: str) -> str:
    try:
        return " ".join(shlex.split(text, comments=True))
    except ValueError as bad:
        raise LabFile(f"{place}: {bad}") from None
