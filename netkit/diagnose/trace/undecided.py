"""Follow a packet on one host, also where a condition of its rules cannot be evaluated.  Pure."""

from __future__ import annotations

from netkit.diagnose.explain.hooks import Undecided
from netkit.diagnose.trace.facts import Observer
from netkit.diagnose.trace.leg import Ask, Leg, Stop
from netkit.diagnose.trace.walk import Walk

MOST_GUESSES = 6  # unevaluable conditions: 64 ways to look at
UNEVALUATED = {  # reasons of explain.journey -> codes
    "policy routing is not evaluated": "policy-routing",
    "rules on frames are not evaluated": "frame-rules",
}


def leg(ask: Ask, observer: Observer) -> Leg:
    """Follow the packet on this host.  NotFound, InvalidSpec for what it does not know."""
    return _explore(ask, observer, ())


def _explore(ask: Ask, observer: Observer, guesses: tuple[bool, ...]) -> Leg:
    """Try conditions that cannot be evaluated both ways; answer if the outcome is the same."""
    walk = Walk(ask, observer, guesses)
    try:
        return walk.go()
    except Undecided as u:
        if len(guesses) < MOST_GUESSES:
            no, yes = (_explore(ask, observer, (*guesses, guess)) for guess in (False, True))
            if (no.end, no.code, no.space, no.ends) == (yes.end, yes.code, yes.space, yes.ends):
                return no
        code = UNEVALUATED.get(u.why, "rule-unknown")
        return walk.stopped(Stop(code, f"it depends on {u.why}: {u.rule.text}"))
