"""Requests: what is refused, and which of them make the same tree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netkit.bootstrap.request import Request, checked, split, without_password
from netkit.errors import InvalidSpec

SCRIPTS = {
    "bookworm": "variants - minbase\nkeyring /usr/share/keyrings/debian-archive-keyring.gpg\n",
    "jammy": "case $ARCH in\n\tkeyring /usr/share/keyrings/ubuntu-archive-keyring.gpg\nesac\n",
}
BOOKWORM = Request(distribution="debian", suite="bookworm")


def test_a_reference_is_a_distribution_and_a_suite() -> None:
    assert split("debian:bookworm") == ("debian", "bookworm")
    assert split("debian") == split("debian:latest") == ("debian", "stable")
    for bad in ("", "Debian:x", "a/b:c", "debian:../x", "--mirror=x", "debian:bookworm@sha256:1"):
        with pytest.raises(InvalidSpec, match="DISTRIBUTION:SUITE"):
            split(bad)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"suite": "bookwrm"}, "did you mean 'bookworm'"),
        ({"suite": "jammy"}, "jammy is a suite of ubuntu: say ubuntu:jammy"),
        ({"variant": "fakechroot"}, "unknown variant 'fakechroot'"),
        ({"include": ("nginx", "--no-check-gpg")}, "'--no-check-gpg' is no name of a package"),
        ({"packages": ("a b",)}, "'a b' is no name of a package"),
        ({"components": ("-x",)}, "'-x' is no component"),
        ({"mirror": "--keyring=/x"}, "is no URL"),
        ({"mirror": "http://a/ x"}, "a blank"),
    ],
)
def test_what_debootstrap_or_apt_would_take_for_something_else_is_refused(
    change: dict[str, object], why: str
) -> None:
    with pytest.raises(InvalidSpec, match=why):
        checked(replace(BOOKWORM, **change), SCRIPTS)  # type: ignore[arg-type]


def test_the_order_of_packages_makes_no_difference_and_each_choice_does() -> None:
    def key(request: Request) -> str:
        return checked(request, SCRIPTS).key("amd64")

    one = replace(BOOKWORM, include=("nginx", "curl"), packages=("vim",))
    assert key(one) == key(replace(one, include=("curl", "nginx", "curl")))
    others = [
        replace(one, include=("nginx",)), replace(one, packages=()), replace(one, variant="buildd"),
        replace(one, components=("main", "contrib")), replace(one, mirror="http://10.0.0.1/debian"),
        replace(one, keyring="/k"), replace(one, epoch=1),
    ]  # fmt: skip
    keys = {key(each) for each in [one, *others]} | {checked(one, SCRIPTS).key("arm64")}
    assert len(keys) == len(others) + 2
    assert key(one).startswith("debian-bookworm-")


def test_a_password_of_a_mirror_stays_out_of_the_image() -> None:
    assert without_password("https://me:secret@mirror:81/debian") == "https://mirror:81/debian"
    assert without_password("file:/srv/debian") == "file:///srv/debian"
    assert without_password("") == ""
