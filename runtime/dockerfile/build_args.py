"""Values of ARG and of `--build-arg`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from runtime.dockerfile.expansion import variables

# Known without ARG, and then in neither history nor the cache's key.
PREDEFINED = frozenset({
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy",
    "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy",
})  # fmt: skip


class BuildArgs:
    """Arguments of one stage: `given` by the user, `outer` declared before the first FROM."""

    def __init__(
        self, given: Mapping[str, str | None], outer: Mapping[str, str | None] | None = None
    ) -> None:
        self._given = given
        self._outer = dict(outer or {})
        self._declared: dict[str, str | None] = {}

    def declare(self, name: str, default: str | None) -> None:
        self._declared[name] = default

    def stage(self) -> BuildArgs:
        """Arguments of a stage that begins: none is declared in it yet.

        Those declared here, before the first FROM, are its outer ones.
        """
        return BuildArgs(self._given, self._declared)

    def outer_values(self) -> dict[str, str]:
        """What FROM may use."""
        return self._values(self._outer)

    def values(self) -> dict[str, str]:
        return self._values(self._declared)

    def environment(self, env: Sequence[str]) -> list[str]:
        """NAME=VALUE of the arguments that no ENV of `env` overrides, sorted."""
        taken = variables(env)
        return sorted(f"{k}={v}" for k, v in self.values().items() if k not in taken)

    def recorded(self, environment: Iterable[str]) -> list[str]:
        """Those of `environment` that history and the cache know."""
        return [
            pair
            for pair in environment
            if (name := pair.partition("=")[0]) in self._declared or name not in PREDEFINED
        ]

    @property
    def declared(self) -> frozenset[str]:
        return frozenset(self._declared)

    def _values(self, source: Mapping[str, str | None]) -> dict[str, str]:
        found = {name: self._value(name, source) for name in {*source, *PREDEFINED}}
        return {name: value for name, value in found.items() if value is not None}

    def _value(self, name: str, source: Mapping[str, str | None]) -> str | None:
        if (given := self._given.get(name)) is not None:
            return given
        default = source.get(name)
        return self._outer.get(name) if default is None else default


def unused(given: Mapping[str, str | None], declared: Iterable[str]) -> list[str]:
    """Names of `--build-arg` that no ARG declares, sorted."""
    return sorted(set(given) - set(declared) - PREDEFINED)
