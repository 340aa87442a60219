"""Apply the Dockerfile instructions of `import --change` to an image's configuration.  Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

from netkit.errors import InvalidSpec
from runtime import untrusted


def apply(config: dict[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """The `config` object of an image, changed.  InvalidSpec names the bad instruction."""
    out = dict(config)
    for line in changes:
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        handler = _INSTRUCTIONS.get(word.upper())
        if handler is None:
            raise InvalidSpec(
                f"{word.upper() or line!r} is not a valid change command: use one of "
                f"{', '.join(sorted(_INSTRUCTIONS))}"
            )
        if not rest and word.upper() not in {"CMD", "ENTRYPOINT"}:
            raise InvalidSpec(f"{word.upper()} requires at least one argument")
        handler(out, rest)
    return out


def _list(text: str, what: str) -> list[str] | None:
    """Parse a JSON list of strings; None if it is none.  InvalidSpec beyond the bounds."""
    if not text.startswith("["):
        return None
    try:
        words = untrusted.decode(text.encode(), what)
    except (InvalidSpec, UnicodeEncodeError):
        return None
    return words if isinstance(words, list) and all(isinstance(w, str) for w in words) else None


def _command(text: str) -> list[str]:
    words = _list(text, "CMD")
    if words is not None:
        return words
    return ["/bin/sh", "-c", text] if text else []


def _pairs(text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidSpec(f"Syntax error - {error} in {text[:200]!r}") from None
    if not words or "=" not in words[0]:  # the older form: NAME the rest
        name, _, value = text.partition(" ")
        return {name: value.strip()}
    pairs = {}
    for word in words:
        name, eq, value = word.partition("=")
        if not eq or not name:
            raise InvalidSpec(f"Syntax error - can't find = in {word!r}. Must be of the form: "
                              "name=value")  # fmt: skip
        pairs[name] = value
    return pairs


_PORTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?", re.ASCII)


def _env(c: dict[str, Any], text: str) -> None:
    env = dict(e.partition("=")[::2] for e in c.get("Env") or ())
    c["Env"] = [f"{k}={v}" for k, v in (env | _pairs(text)).items()]


def _label(c: dict[str, Any], text: str) -> None:
    c["Labels"] = {**(c.get("Labels") or {}), **_pairs(text)}


def _expose(c: dict[str, Any], text: str) -> None:
    ports: dict[str, dict[str, str]] = {}
    for word in text.split():
        number, _, proto = word.partition("/")
        if not _PORTS.fullmatch(number) or proto not in {"", "tcp", "udp", "sctp"}:
            raise InvalidSpec(f"Invalid containerPort: {word[:200]}")
        ends = [int(end) for end in number.split("-")]
        if ends != sorted(ends) or ends[-1] > 65535:
            raise InvalidSpec(f"Invalid containerPort: {word[:200]}")
        ports[f"{number}/{proto or 'tcp'}"] = {}
    c["ExposedPorts"] = {**(c.get("ExposedPorts") or {}), **ports}


def _volume(c: dict[str, Any], text: str) -> None:
    listed = _list(text, "VOLUME")
    paths = text.split() if listed is None else listed
    if not paths:
        raise InvalidSpec("VOLUME requires at least one argument")
    if not all(path.strip() for path in paths):
        raise InvalidSpec("VOLUME specified can not be an empty string")
    c["Volumes"] = {**(c.get("Volumes") or {}), **{p: {} for p in paths}}


def _workdir(c: dict[str, Any], text: str) -> None:
    base = c.get("WorkingDir") or "/"
    c["WorkingDir"] = text if text.startswith("/") else f"{base.rstrip('/')}/{text}"


def _healthcheck(c: dict[str, Any], text: str) -> None:
    check: dict[str, Any] = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", text):
        name, value = match.groups()
        if name == "retries" and value.isdecimal() and len(value) < 10:
            check["Retries"] = int(value)
        elif name in _HEALTH_TIMES:
            check[_HEALTH_TIMES[name]] = _nanoseconds(value)
        else:
            raise InvalidSpec(f"Unknown flag or value in HEALTHCHECK: --{name}={value}")
        text = text[match.end() :]
    if text.upper() == "NONE":
        c["Healthcheck"] = {"Test": ["NONE"]}
        return
    if not text.upper().startswith("CMD"):
        raise InvalidSpec(f"Unknown type {text.split(' ')[0]!r} in HEALTHCHECK (try CMD)")
    words = text[3:].strip()
    parsed = _command(words)
    check["Test"] = ["CMD", *parsed] if words.startswith("[") else ["CMD-SHELL", words]
    c["Healthcheck"] = check


_HEALTH_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def _nanoseconds(text: str) -> int:
    """Parse a Go duration such as 1m30s."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", text)
    whole = "".join(n + u for n, u in parts) == text
    total = sum(float(n) * _UNITS[u] for n, u in parts)
    if not parts or not whole or total >= 1 << 63:
        raise InvalidSpec(f"invalid duration {text[:60]!r}: e.g. 30s, and at most 292 years")
    return int(total)


def _cmd(c: dict[str, Any], text: str) -> None:
    c["Cmd"] = _command(text)


def _entrypoint(c: dict[str, Any], text: str) -> None:
    c["Entrypoint"] = _command(text)


def _user(c: dict[str, Any], text: str) -> None:
    c["User"] = text


def _stop(c: dict[str, Any], text: str) -> None:
    c["StopSignal"] = text


def _onbuild(c: dict[str, Any], text: str) -> None:
    c["OnBuild"] = [*(c.get("OnBuild") or ()), text]


_INSTRUCTIONS = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stop,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
