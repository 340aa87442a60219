"""The pytest plugin of driver authors: the contract suite on a driver of theirs.

    pytest --driver netkit_hub:Hub                      the contract suite
    pytest --driver netkit_macvlan:Macvlan --driver-option parent=nic0

Loaded by every pytest where netkit is installed, so it imports nothing until it is asked to.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from netkit.driver import Driver

SUITE = "netkit.testing.driver_contract"
MEMBERS = (
    "name", "options", "uses_ipam", "supports_port_mapping", "parse", "policy", "network",
    "endpoint",
)  # fmt: skip

pytest.register_assert_rewrite(SUITE, "netkit.testing.driver_fixtures")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netkit", "network drivers of netkit")
    group.addoption(
        "--driver",
        metavar="MODULE:CLASS",
        help="run netkit's contract suite on this network driver, e.g. netkit_hub:Hub",
    )
    group.addoption(
        "--driver-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of its networks, as -o of `netkit net create`; the suite's host has the "
        "NIC nic0 (repeatable)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: needs root and private network namespaces")
    given = config.getoption("--driver")
    if given is None:
        return
    # What is wrong is refused here, in a line, before anything is collected.
    driver, options = load(given)(), parse_options(config.getoption("--driver-option"))
    try:
        driver.parse(options)
    except Exception as error:  # noqa: BLE001  whatever an author's driver raises
        raise pytest.UsageError(
            f"--driver {given}: parse({dict(options)}) fails: {error}: "
            "give --driver-option KEY=VALUE"
        ) from None
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(Path(__file__).with_name("driver_contract.py"))]


def load(given: str) -> type[Driver]:
    """The class MODULE:CLASS; UsageError with the reason, in a line, if it is no driver."""
    module_name, colon, name = given.partition(":")
    if not (module_name and colon and name):
        raise pytest.UsageError(f"--driver {given}: give MODULE:CLASS, as in netkit_hub:Hub")
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:  # noqa: BLE001  whatever an author's module raises
        raise pytest.UsageError(
            f"--driver {given}: cannot import {module_name}: {error}: "
            "install it, or set PYTHONPATH to its folder"
        ) from None
    if not isinstance(found, type):
        what = "has no class" if found is None else "has no class, but something else, called"
        raise pytest.UsageError(f"--driver {given}: module {module_name} {what} {name}")
    if missing := [member for member in MEMBERS if not hasattr(found, member)]:
        raise pytest.UsageError(
            f"--driver {given}: {name} is no network driver, it has no {', '.join(missing)}: "
            "see netkit.driver.Driver"
        )
    try:
        found()
    except Exception as error:  # noqa: BLE001  likewise
        raise pytest.UsageError(f"--driver {given}: {name}() fails: {error}") from None
    return found


def parse_options(given: Iterable[str]) -> Mapping[str, str]:
    pairs = [text.partition("=") for text in given]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise pytest.UsageError(f"--driver-option {key}{equals}: give KEY=VALUE")
    return {key: value for key, _, value in pairs}
