"""Add and remove access rules: stored, and in force; or as before, where that fails."""

from __future__ import annotations

from collections.abc import Callable

from netkit import threads
from netkit.network.access import UNREADABLE, AccessRule, AccessRuleStore, validate
from netkit.network.policy_sync import PolicySync


class AccessRules:
    """`random` gives n random bits; `repair` repairs the firewall."""

    def __init__(
        self,
        store: AccessRuleStore,
        policy_sync: PolicySync,
        random: Callable[[int], int],
        repair: Callable[[], object],
    ) -> None:
        self._store, self._policy_sync = store, policy_sync
        self._random, self._repair = random, repair

    def add(self, rule: AccessRule, *, first: bool = False) -> AccessRule:
        made = self._store.add(validate(rule), id=f"{self._random(48):012x}", first=first)
        try:
            self._policy_sync.sync_sandbox(made.target)
        except BaseException:
            self._store.delete(made.id)
            raise
        return made

    def remove(self, ref: str) -> AccessRule:
        row = self._store.find(ref)
        rule = row.rule
        self._store.delete(rule.id)
        try:
            self._policy_sync.sync_sandbox(rule.target)
        except BaseException:
            self._store.restore(row)
            raise
        if rule.verdict == UNREADABLE:  # what it stood for is known by what is left alone
            threads.attempt("removing what an access rule stood for", self._repair)
        return rule

    def origins(self) -> dict[str, str]:
        return self._policy_sync.rule_origins({r.target for r in self._store.of_sandbox()})
