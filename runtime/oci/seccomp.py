"""Convert a seccomp profile in Docker's format to linux.seccomp of the OCI specification."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from netkit.errors import InvalidSpec
from netkit.kernel import release

_ARCHES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
}


@cache
def builtin() -> Mapping[str, Any]:
    """The default profile of this engine."""
    document: dict[str, Any] = json.loads((files("runtime.oci") / "seccomp.json").read_text())
    return document


def parse(text: str) -> Mapping[str, Any]:
    """Parse a user's profile; InvalidSpec if it is malformed."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as e:
        raise InvalidSpec(f"Decoding seccomp profile failed: {e}") from e
    if not isinstance(document, dict) or "defaultAction" not in document:
        raise InvalidSpec("Decoding seccomp profile failed: defaultAction is missing")
    for rule in document.get("syscalls") or ():
        named = isinstance(rule, dict) and (rule.get("names") or rule.get("name"))
        if not named or "action" not in rule:
            raise InvalidSpec(
                "Decoding seccomp profile failed: a rule of syscalls has no names or no action"
            )
    return document


def resolve(
    profile: Mapping[str, Any],
    capabilities: Collection[str],
    machine: str,
    absent: Collection[str] = (),
) -> dict[str, Any]:
    """linux.seccomp for a container with these capabilities on this machine (`uname -m`).

    `absent`: ABIs to leave out, since the kernel has none of them (`abi`).
    """
    arch, scmp = _ARCHES.get(machine, (machine, ""))
    out: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    if profile.get("defaultErrnoRet") is not None:
        out["defaultErrnoRet"] = profile["defaultErrnoRet"]
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == scmp:
            # e.g. i386 programs on amd64: without its ABI each of their system calls would fail
            others = entry.get("subArchitectures") or ()
            out["architectures"] = [scmp, *(a for a in others if a not in absent)]
    if "architectures" in profile:
        out["architectures"] = list(profile["architectures"])
    out["syscalls"] = [
        _rule(r) for r in profile.get("syscalls") or () if _applies(r, capabilities, arch)
    ]
    return out


def _applies(rule: Mapping[str, Any], capabilities: Collection[str], arch: str) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if (least := includes.get("minKernel")) and _least(least) > release.running():
        return False
    if any(c not in capabilities for c in includes.get("caps") or ()):
        return False
    if arch in (excludes.get("arches") or ()):
        return False
    return not any(c in capabilities for c in excludes.get("caps") or ())


def _least(given: str) -> tuple[int, int]:
    try:
        return release.parsed(given)
    except ValueError:
        raise InvalidSpec(
            f"Decoding seccomp profile failed: minKernel {given!r}: e.g. 4.8"
        ) from None


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "names": rule.get("names") or [rule["name"]],
        "action": rule["action"],
    }
    if rule.get("errnoRet") is not None:
        out["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        out["args"] = [
            {k: a[k] for k in ("index", "value", "valueTwo", "op") if k in a} for a in rule["args"]
        ]
    return out
