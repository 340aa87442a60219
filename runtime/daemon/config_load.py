"""Load the configuration from flags, daemon.json and defaults.  Pure but for reading files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from netkit.errors import InvalidSpec
from netkit.suggestion import hint
from runtime.daemon import registry_keys
from runtime.daemon.config import DaemonConfig
from runtime.daemon.config_checks import checked
from runtime.daemon.config_values import REPEATED, value
from runtime.daemon.docker_keys import KEYS, REMOVED, DockerKey, settle
from runtime.daemon.flags import FLAGS

DEFAULT_CONFIG = Path("/etc/netkit/daemon.json")


class _Parser(argparse.ArgumentParser):
    """Raises InvalidSpec with one line, and a suggestion for a misspelt flag."""

    def error(self, message: str) -> NoReturn:
        wrong, _, rest = message.partition("unrecognized arguments: ")
        if rest and not wrong:
            word = rest.split()[0].partition("=")[0]
            words = [w for flag in FLAGS for w in flag.words if w.startswith("--")]
            raise InvalidSpec(f"unknown flag: {word}{hint(word, words)} (see netkitd --help)")
        raise InvalidSpec(f"{message} (see netkitd --help)")


@cache
def parser() -> argparse.ArgumentParser:
    p = _Parser(
        prog="netkitd",
        description="The netkit daemon: runs containers, serves the Docker Engine API.",
        epilog="See docs/daemon.md for other flags of dockerd.  Example: "
        "netkitd -H unix:///run/netkit/netkit.sock --label rack=7 --log-opt max-size=10m",
        argument_default=argparse.SUPPRESS,  # only flags that were given override the file
        allow_abbrev=False,
    )
    p.add_argument("--config", "--config-file", metavar="FILE", help="daemon.json")
    p.add_argument("--validate", action="store_true", help="check the configuration and exit")
    p.add_argument("--version", "-v", action="store_true", help="print the version and exit")
    for flag in FLAGS:
        _add(p, flag.words, flag.key, flag.kind, flag.meta, flag.help)
    for key in KEYS:
        if key.flag:
            words = (f"--{key.flag}", *([f"-{key.short}"] if key.short else []))
            _add(p, words, f"{_DOCKER}{key.name}", key.kind, "", argparse.SUPPRESS)
    return p


_DOCKER = "docker:"


def _add(
    p: argparse.ArgumentParser, words: Sequence[str], dest: str, kind: str, meta: str, text: str
) -> None:
    if kind in {"flag", "folder"}:
        shown = meta or "BOOL"
        p.add_argument(*words, dest=dest, nargs="?", const="true", metavar=shown, help=text)
    elif kind in REPEATED or kind == "json":
        p.add_argument(*words, dest=dest, action="append", metavar=meta or None, help=text)
    else:
        p.add_argument(*words, dest=dest, metavar=meta or None, help=text)


def load(argv: Sequence[str], read: Callable[[Path], bytes] = Path.read_bytes) -> DaemonConfig:
    """Merge flags and file; InvalidSpec names the invalid key or flag, and why.

    A key given in both places is refused, as Docker does: one of the two would be ignored.
    """
    given = vars(parser().parse_args(argv))
    path = given.pop("config", None)
    for word in ("version", "validate"):
        given.pop(word, None)
    file = Path(path) if path else DEFAULT_CONFIG
    values: dict[str, Any] = {}
    warnings: list[str] = []
    if path or file.exists():
        values = _from_file(file, read, warnings)
        if both := sorted(set(values) & set(given)):
            name = both[0].removeprefix(_DOCKER).replace("_", "-")
            raise InvalidSpec(f"{name} is given as a flag and in {file}: give it once")
    for key in KEYS:
        if (dest := f"{_DOCKER}{key.name}") in given:
            _settle(key, f"--{key.flag}", given.pop(dest), warnings)
    known = {flag.key: flag for flag in FLAGS}
    values |= {key: value(known[key].kind, known[key].words[0], v) for key, v in given.items()}
    values = {key: v for key, v in values.items() if not key.startswith(_DOCKER)}
    _registries(values)
    folder = file.absolute().parent
    return checked(DaemonConfig(**values, folder=folder, warnings=tuple(warnings)))


def _settle(key: DockerKey, name: str, given: Any, warnings: list[str]) -> None:
    if given is not None and (warning := settle(key, value(key.kind, name, given))):
        warnings.append(warning)


def _registries(values: dict[str, Any]) -> None:
    for key, read in (
        ("registry_mirrors", registry_keys.mirror),
        ("insecure_registries", registry_keys.insecure),
    ):
        if given := values.get(key):
            values[key] = tuple(dict.fromkeys(read(text) for text in given))


def _from_file(file: Path, read: Callable[[Path], bytes], warnings: list[str]) -> dict[str, Any]:
    known = {word: flag for flag in FLAGS for word in flag.spellings}
    ours = {key.file: key for key in KEYS if key.file}
    values: dict[str, Any] = {}
    for word, given in _flat(_document(file, read)).items():
        try:
            if given is None:  # null counts as absent, as in Go
                continue
            if word == "host-gateway-ip" and isinstance(given, str):
                given = [given]  # noqa: PLW2901  the older key is a single value
            if word in ours:
                values[f"{_DOCKER}{word}"] = None
                _settle(ours[word], word, given, warnings)
            elif word in known:
                if known[word].key in values:
                    raise InvalidSpec(f"{word} and {known[word].file} are one: give it once")
                values[known[word].key] = value(known[word].kind, word, given)
            elif word in REMOVED:
                raise InvalidSpec(f"{word} was removed: {REMOVED[word]}")
            else:
                raise InvalidSpec(f"unknown key {word!r}{hint(word, [*known, *ours])}")
        except InvalidSpec as error:
            raise InvalidSpec(f"{file}: {error}") from None
    return values


def _document(file: Path, read: Callable[[Path], bytes]) -> dict[str, Any]:
    """The file's JSON object; an empty file counts as {}, as with dockerd."""
    try:
        text = read(file).decode("utf-8-sig")
        document = json.loads(text) if text.strip() else {}
    except OSError as e:
        raise InvalidSpec(f"cannot read {file}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise InvalidSpec(f"{file} is not UTF-8: {e.reason} at byte {e.start}") from e
    except (json.JSONDecodeError, RecursionError) as e:
        raise InvalidSpec(f"{file} is not JSON: {e}") from e
    if not isinstance(document, dict):
        raise InvalidSpec(f"{file} must hold one JSON object")
    return document


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Flatten the keys of the object "proxies" into the others."""
    inner = document.get("proxies")
    if not isinstance(inner, dict):
        return document
    return {word: v for word, v in document.items() if word != "proxies"} | inner
