"""Names of images: how long they may be."""

from __future__ import annotations

import pytest

from netkit.errors import InvalidSpec
from runtime.images.reference import parse


@pytest.mark.parametrize("prefix", ["", "library/", "docker.io/library/", "a/", "registry:5000/"])
def test_a_repository_name_has_at_most_255_characters_with_its_registry(prefix: str) -> None:
    whole = {"": "docker.io/library/", "library/": "docker.io/library/", "a/": "docker.io/a/"}
    room = 255 - len(whole.get(prefix, prefix))
    assert parse(f"{prefix}{'x' * room}:tag").tag == "tag"
    with pytest.raises(InvalidSpec, match=r"^repository name must not be more than 255 characters"):
        parse(f"{prefix}{'x' * (room + 1)}")
