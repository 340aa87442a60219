"""Compare claims of `fw show`, `fw ls`, `fw check`, `fw explain` and `net trace` with packets.

Each command yields claims; one that yields none in some setting is not tested there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from netkit.cli.fwtext import lines
from netkit.diagnose.explain.answer import Explanation, explain
from netkit.diagnose.explain.question import question as question_of
from netkit.diagnose.explain.words import text
from netkit.diagnose.trace.join import Trace, question, trace
from netkit.diagnose.trace.live import LiveObserver
from netkit.errors import NotFound
from netkit.kernel import netns
from netkit.kernel.iptables import br_netfilter
from netkit.kernel.ovn.databases import Databases
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.switches import Switches
from netkit.kernel.ovs.vswitchd import Vswitchd
from netkit.overlay.client import ABSENT
from runtime.container.config import Config, HostConfig
from runtime.container.model import Container, State
from runtime.container.store import ContainerStore
from runtime.network.firewall import FirewallService
from runtime.network.trace import TraceService
from tests.reach.great import FAR, NEAR
from tests.reach.model import Probe
from tests.reach.town import LAYOUTS, Town, sandbox

BEGINS = "2026-01-01T00:00:00.000000000Z"


@dataclass(frozen=True, slots=True)
class Claim:
    """`wrong` is empty where the packets did as the command claims."""

    what: str
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a setting is expected to look like; `packets` is what was received."""

    town: Town
    packets: Mapping[Probe, str]
    drifts: bool = False  # are netkit's own rules not as they should be?
    found: int = 0  # other findings of `fw check`
    foreign: int = 0  # rules of other tools that decide about container web
    lost: bool = False  # are there rules of netkit's without their comments?


class Commands:
    """The use cases behind the five commands, on a town's networks, in the town's namespace."""

    def __init__(self, t: Town, *, enforced: bool) -> None:
        store = ContainerStore(t.database)
        for name, box in t.world.boxes.items():
            home = next(iter(box.homes))
            made = Container(
                id=sandbox(t, name).id, name=name, created=BEGINS, image="sha256:0",
                config=Config(), host_config=HostConfig(network_mode=home),
                state=State(status="running", started_at=BEGINS),
            )  # fmt: skip
            if store.get(made.id) is None:
                store.add(made)
        names = {sandbox(t, name).id: t.lab.ns(name) for name in t.world.boxes}
        backend: dict[str, Any] = {"Driver": "some" if enforced else "none"}
        self._home = t.lab.home
        self._firewall = FirewallService(
            t.net, store, _Silent(), policies=t.net, backend=lambda: backend,
            namespace=names.__getitem__,
            shown=lambda link: br_netfilter.shown(link, t.lab.home), elsewhere=list,
            layouts=LAYOUTS,
        )  # fmt: skip
        self._trace = _OneLook(
            t.net, store, policies=t.net, namespace=names.__getitem__,
            backend=lambda: backend,
            switches=Switches(Ovsdb("unix:/nonexistent"), Vswitchd("/nonexistent")),
            vswitchd=Vswitchd("/nonexistent"), ovn=Databases(Ovsdb("unix:/nonexistent")),
            overlay=_no_overlay, layouts=LAYOUTS,
        )  # fmt: skip
        self._facts = t.facts()  # as `fw explain` looks at the host, once for all probes

    def show(self) -> dict[str, Any]:
        with netns.inside(self._home):
            return self._firewall.show()

    def ls(self) -> list[dict[str, Any]]:
        return self._firewall.rules()

    def check(self) -> list[str]:
        return self._firewall.drift()

    def findings(self) -> list[str]:
        with netns.inside(self._home):
            return self._firewall.findings()

    def explain(self, p: Probe) -> Explanation:
        return explain(question_of(_source(p), str(p.dst), f"{p.port}/{p.proto}"), self._facts)

    def trace(self, p: Probe) -> Trace:
        asked = question(_source(p), str(p.dst), f"{p.port}/{p.proto}")
        with netns.inside(self._home):
            return trace({"here": self._trace}, asked)


class _OneLook(TraceService):
    """What was read once is not read again for another probe's trace."""

    _seen: LiveObserver | None = None

    def _observer(self) -> LiveObserver:
        self._seen = self._seen or super()._observer()
        return self._seen


def _no_overlay(_: object) -> Any:
    raise NotFound(ABSENT)


class _Silent:
    def emit(self, *_: object) -> None:
        """No client listens for events."""


def _source(p: Probe) -> str:
    return p.who if p.who[0].isalpha() else f"lan:{p.who}"


def _show(c: Commands, s: Setting) -> Iterator[Claim]:
    """The line about other hosts, those about published ports, and the rules of other tools."""
    found = c.show()
    web = next(x for x in found["Containers"] if x["Name"] == "web")
    shown = "\n".join(lines({**found, "Containers": [web]}))
    rules = len([r for r in web["Foreign"] if not r["Lost"]])
    lost = len(web["Foreign"]) - rules
    yield Claim("lost", "" if bool(lost) == s.lost else f"{lost} rules without comments\n{shown}")
    fits = rules == s.foreign
    yield Claim("foreign", "" if fits else f"{rules} rules of other tools\n{shown}")
    if rules:
        return  # "but for the rules above"
    home = s.town.world.boxes["web"].homes["one"]
    open_ = any(words in shown for words in (
        "reaches all its ports", "every host on it reaches", "reach all ports there"))  # fmt: skip
    direct = s.packets[Probe(who=str(FAR), dst=home, port=80)]
    yield Claim("others", "" if open_ == (direct == "web") else f"packets {direct!r}\n{shown}")
    for p in web["Published"]:
        leads = "nothing leads" not in shown
        got = s.packets[Probe(who=str(FAR), dst=s.town.world.host[0], port=p["HostPort"])]
        yield Claim("published", "" if leads == (got == "web") else f"packets {got!r}\n{shown}")


def _ls(c: Commands, s: Setting) -> Iterator[Claim]:
    """A drop rule in force drops packets of its source only."""
    for rule in c.ls():
        port, _, proto = rule["Port"].partition("/")
        home = next(iter(s.town.world.boxes[rule["To"]].homes.values()))
        dst = s.town.world.host[0] if rule["Published"] else home
        near, far = (
            s.packets[Probe(who=str(who), dst=dst, port=int(port), proto=proto)]
            for who in (NEAR, FAR)
        )
        fits = (near, far) == ("", rule["To"]) if rule["InForce"] else near == far
        yield Claim(rule["Status"], "" if fits else f"{rule}: {near!r} from it, {far!r} else")


def _check(c: Commands, s: Setting) -> Iterator[Claim]:
    steps, found = c.check(), c.findings()
    yield Claim("drift", "" if bool(steps) == s.drifts else f"steps {steps}")
    yield Claim("findings", "" if len(found) == s.found else f"findings {found}")


def _explain(c: Commands, s: Setting) -> Iterator[Claim]:
    for p, who in s.packets.items():
        e = c.explain(p)
        got = {"delivered": e.to, "undetermined": e.verdict}.get(e.verdict, "")
        fits = got == _meant(who) or (got == "the host" and not who)  # it looks at no sockets
        yield Claim(str(p), "" if fits else f"{p}: real packets {who!r}\n{text(e)}")


def _trace(c: Commands, s: Setting) -> Iterator[Claim]:
    for p, who in s.packets.items():
        t = c.trace(p)
        fits = t.verdict not in {"DELIVERED", "UNDETERMINED"}
        if who:
            fits = t.verdict == "DELIVERED" and t.words.endswith(_meant(who))
        yield Claim(str(p), "" if fits else f"{p}: real packets {who!r}\n{t.verdict}: {t.words}")


def _meant(who: str) -> str:
    return {"": "", "host": "the host"}.get(who, f"container {who}")


COMMANDS: dict[str, Callable[[Commands, Setting], Iterator[Claim]]] = {
    "fw show": _show,
    "fw ls": _ls,
    "fw check": _check,
    "fw explain": _explain,
    "net trace": _trace,
}


def contradictions(s: Setting, *, enforced: bool = True) -> list[str]:
    """List where a command and the packets differ, and commands that claimed nothing at all.

    To be asked while the servers listen: `net trace` looks at sockets.
    """
    commands, out = Commands(s.town, enforced=enforced), []
    for name, ask in COMMANDS.items():
        claims = list(ask(commands, s))
        out += [f"{name}: {c.wrong}" for c in claims if c.wrong]
        if not claims:
            out.append(f"{name}: no claim to hold to the packets")
    return out
