"""What instructions do to the configuration of an image."""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from netkit.errors import InvalidSpec
from runtime.dockerfile import expansion
from runtime.dockerfile import instructions as dockerfile
from runtime.dockerfile.build_args import BuildArgs
from runtime.dockerfile.exposed import exposed
from runtime.dockerfile.gotext import duration_text, quoted, quoted_list, quoted_rune

SHELL = ("/bin/sh", "-c")
_SIGNALS = frozenset(
    {s.name.removeprefix("SIG") for s in signal.Signals}
    | {"CLD", "IOT", "POLL"}
    | {f"RTMIN+{n}" for n in range(1, 16)}
    | {f"RTMAX-{n}" for n in range(1, 15)}
)
I = TypeVar("I", bound=dockerfile.Instruction)  # noqa: E741


@dataclass(slots=True)
class StageState:
    """A stage as its instructions leave it; `config` is the image's, with Docker's keys."""

    config: dict[str, Any]
    args: BuildArgs = field(default_factory=lambda: BuildArgs({}))
    escape: str = "\\"
    author: str = ""
    command_set: bool = False  # by CMD in this stage: ENTRYPOINT does not reset it

    @property
    def env(self) -> list[str]:
        return list(self.config.get("Env") or ())

    @property
    def shell(self) -> list[str]:
        return list(self.config.get("Shell") or SHELL)

    def variables(self) -> dict[str, str]:
        return expansion.variables([*self.env, *self.args.environment(self.env)])

    def command_line(self, command: dockerfile.Run) -> list[str]:
        """The words of RUN, CMD or ENTRYPOINT, with the shell in front where one reads them."""
        return [*self.shell, *command.command] if command.shell else list(command.command)


def expanded(found: I, values: Mapping[str, str], escape: str) -> I:
    """The instruction with its variables replaced where Docker does.  ExpansionFault."""

    def word(text: str) -> str:
        return expansion.word(text, values, escape)

    match found:
        case dockerfile.Label(literal=True):
            return found
        case dockerfile.Env():
            return replace(found, pairs=tuple((word(name), word(v)) for name, v in found.pairs))
        case dockerfile.Arg():
            values_of = ((name, v if v is None else word(v)) for name, v in found.defaults)
            return replace(found, defaults=tuple((word(name), v) for name, v in values_of))
        case dockerfile.Copy():
            return replace(
                found,
                chown=word(found.chown),
                sources=tuple(map(word, found.sources)),
                target=word(found.target),
            )
        case dockerfile.Volume():
            return replace(found, paths=tuple(map(word, found.paths)))
        case dockerfile.Workdir() | dockerfile.User() | dockerfile.Stopsignal():
            return replace(found, text=word(found.text))
        case dockerfile.Expose():
            ports = (p for port in found.ports for p in expansion.words(port, values, escape))
            return replace(found, ports=tuple(ports))
        case _:
            return found


def apply(state: StageState, found: dockerfile.Instruction) -> str:
    """Change the state by an instruction, expanded; the comment that history has of it.

    Not for FROM, RUN, ADD and COPY, which need files.  InvalidSpec.
    """
    effect = _EFFECTS[type(found)]
    return effect(state, found)


def _env(state: StageState, found: dockerfile.Env) -> str:
    env = state.env
    places: dict[str, int] = {}
    for place, pair in enumerate(env):
        places.setdefault(pair.partition("=")[0], place)
    for name, value in found.pairs:
        if (at := places.setdefault(name, len(env))) == len(env):
            env.append("")
        env[at] = f"{name}={value}"
    state.config["Env"] = env
    return _comment("ENV", *(f"{name}={value}" for name, value in found.pairs))


def _label(state: StageState, found: dockerfile.Label) -> str:
    state.config["Labels"] = {**(state.config.get("Labels") or {}), **dict(found.pairs)}
    return _comment("LABEL", *(f"{name}={value}" for name, value in found.pairs))


def _arg(state: StageState, found: dockerfile.Arg) -> str:
    for name, value in found.defaults:
        state.args.declare(name, value)
    words = (name if value is None else f"{name}={value}" for name, value in found.defaults)
    return _comment("ARG", *words)


def _cmd(state: StageState, found: dockerfile.Cmd) -> str:
    state.config["Cmd"] = command = state.command_line(found)
    state.command_set = state.command_set or bool(found.command)
    return f"CMD {quoted_list(command)}"


def _entrypoint(state: StageState, found: dockerfile.Entrypoint) -> str:
    # As Docker: `ENTRYPOINT []` and ENTRYPOINT alone are no entrypoint.
    command = state.command_line(found) if found.command else []
    state.config["Entrypoint"] = command or None
    if not state.command_set:
        state.config["Cmd"] = None
    return f"ENTRYPOINT {quoted_list(command)}"


def _shell(state: StageState, found: dockerfile.Shell) -> str:
    state.config["Shell"] = list(found.command)
    return f"SHELL [{' '.join(found.command)}]"


def _healthcheck(state: StageState, found: dockerfile.Healthcheck) -> str:
    times = {
        "Interval": found.interval,
        "Timeout": found.timeout,
        "StartPeriod": found.start_period,
        "StartInterval": found.start_interval,
        "Retries": found.retries,
    }
    state.config["Healthcheck"] = {
        "Test": list(found.test), **{name: value for name, value in times.items() if value}
    }  # fmt: skip
    shown = [found.interval, found.timeout, found.start_period]
    if found.start_interval:  # unknown to the Docker whose format this is
        shown.append(found.start_interval)
    return (
        f"HEALTHCHECK &{{{quoted_list(found.test)} "
        f"{' '.join(quoted(duration_text(t)) for t in shown)} {quoted_rune(found.retries)}}}"
    )


def _expose(state: StageState, found: dockerfile.Expose) -> str:
    ports: dict[str, Any] = {port: {} for word in found.ports for port in exposed(word)}
    state.config["ExposedPorts"] = {**(state.config.get("ExposedPorts") or {}), **ports}
    return f"EXPOSE {' '.join(found.ports)}"


def _volume(state: StageState, found: dockerfile.Volume) -> str:
    if not all(found.paths):
        raise InvalidSpec("VOLUME specified can not be an empty string")
    paths: dict[str, Any] = {path: {} for path in found.paths}
    state.config["Volumes"] = {**(state.config.get("Volumes") or {}), **paths}
    return f"VOLUME [{' '.join(found.paths)}]"


def _user(state: StageState, found: dockerfile.User) -> str:
    state.config["User"] = found.text
    return f"USER {found.text}"


def _workdir(state: StageState, found: dockerfile.Workdir) -> str:
    if not found.text:
        raise InvalidSpec("cannot normalize nothing")
    path = found.text
    if not path.startswith("/"):
        path = posixpath.normpath(f"/{state.config.get('WorkingDir') or ''}/{path}")
        path = f"/{path.lstrip('/')}"  # POSIX keeps two slashes at the front
    state.config["WorkingDir"] = path
    return f"WORKDIR {path}"


def _stopsignal(state: StageState, found: dockerfile.Stopsignal) -> str:
    text = found.text
    number = re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII)
    known = int(text) != 0 if number else text.upper().removeprefix("SIG") in _SIGNALS
    if not known:
        raise InvalidSpec(f"Invalid signal: {text}")
    state.config["StopSignal"] = text
    return f"STOPSIGNAL {text}"


def _maintainer(state: StageState, found: dockerfile.Maintainer) -> str:
    state.author = found.text
    return f"MAINTAINER {found.text}"


def _onbuild(state: StageState, found: dockerfile.Onbuild) -> str:
    state.config["OnBuild"] = [*(state.config.get("OnBuild") or ()), found.text]
    return f"ONBUILD {found.text}"


def _comment(*words: str) -> str:
    return " ".join(words)


_EFFECTS: dict[type[dockerfile.Instruction], Callable[[StageState, Any], str]] = {
    dockerfile.Arg: _arg,
    dockerfile.Cmd: _cmd,
    dockerfile.Entrypoint: _entrypoint,
    dockerfile.Env: _env,
    dockerfile.Expose: _expose,
    dockerfile.Healthcheck: _healthcheck,
    dockerfile.Label: _label,
    dockerfile.Maintainer: _maintainer,
    dockerfile.Onbuild: _onbuild,
    dockerfile.Shell: _shell,
    dockerfile.Stopsignal: _stopsignal,
    dockerfile.User: _user,
    dockerfile.Volume: _volume,
    dockerfile.Workdir: _workdir,
}
