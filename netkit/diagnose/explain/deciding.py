"""Describe the rule or policy that decides about a packet.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from netkit.diagnose.explain.diverted import Diverted
from netkit.diagnose.explain.facts import Facts
from netkit.diagnose.explain.hooks import Passed
from netkit.diagnose.explain.meaning import OURS, digest, purpose, whose
from netkit.diagnose.explain.ruleset import Chain, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """The rule, or the policy of a chain (number 0), that decided."""

    tool: str  # iptables-nft, iptables-legacy, nft
    table: str
    chain: str
    number: int
    text: str  # verbatim
    whose: str  # in people's terms
    purpose: str = ""  # of ours: what it is for
    handle: int = 0  # of a rule of nft
    access: str = ""  # the id in `netkit fw ls` of the access rule that it stands for

    @property
    def ours(self) -> bool:
        return self.whose.startswith(OURS)

    @property
    def words(self) -> str:
        named = f"{self.purpose} {self.access}".strip()
        return f"{named} ({self.whose})" if named else self.whose

    @property
    def place(self) -> str:
        which = f"rule {self.number}" if self.number else "the policy"
        return f"{which} of {self.table} {self.chain} ({self.tool})"


def decider(passed: Passed, facts: Facts) -> Decider | None:
    """Whose rule or policy that is; None where neither decided."""
    if passed.rule is not None:
        return of_rule(passed.rule, facts, passed)
    return _of_policy(passed.base) if passed.base is not None else None


def led_away(away: Diverted, facts: Facts) -> str:
    """What keeps a packet from the container whose published port it is for, in a sentence."""
    rule, p = decider(away.by, facts) if away.by else None, away.port
    port, who = f"port {p.host_port}/{p.proto}", f"{p.container}, which publishes it"
    if rule is None:
        return f"no rule leads {port} to {who}"
    return f"{rule.place} keeps {port} from {who}: {rule.words}: {rule.text}"


def admission(request: tuple[Passed, ...]) -> Passed | None:
    """The last rule with an accept verdict in a filter, of those that a packet passed."""
    said = [p for p in request if p.what == "accept" and p.rule is not None]
    at = {h: [p for p in said if p.hook == h] for h in ("forward", "input", "output")}
    for hook in ("forward", "input", "output"):
        if at[hook]:
            ours = [p for p in at[hook] if p.comment.startswith("netkit:")]
            return (ours or at[hook])[-1]
    return None


def _of_policy(chain: Chain) -> Decider:
    return Decider(
        tool=chain.tool,
        table=chain.table,
        chain=chain.name,
        number=0,
        text=f"-P {chain.name} {chain.policy.upper()}",
        whose="the administrator's",
    )


def of_rule(rule: Rule, facts: Facts, passed: Passed | None = None) -> Decider:
    """A rule; where a map or a set decided in it, also the element, with its own comment."""
    entry = passed.entry if passed else ""
    comment = (passed.comment if passed else "") or rule.comment
    return Decider(
        tool=rule.tool,
        table=rule.table,
        chain=rule.chain,
        number=rule.number,
        handle=rule.handle,
        text=f"{rule.text}  [{entry}]" if entry else rule.text,
        whose=whose(comment, rule.chain, facts),
        purpose=purpose(comment, rule.chain, passed.what if passed else "", facts),
        access=facts.access.get(digest(comment), ""),
    )
