"""Have containers share the strings that many of them have, in memory.

A document of a container has some 40 strings; 25 are the same in hundreds of containers: paths
that are masked, the image, the command, the environment.
"""

from __future__ import annotations

from sys import intern

from runtime.container.model import Container


def share_strings(c: Container) -> None:
    """Replace strings by equal ones that other containers have; nothing looks different."""
    c.image, c.boot_id = intern(c.image), intern(c.boot_id)
    c.config.image = intern(c.config.image)
    host, config = c.host_config, c.config
    for texts in (
        host.masked_paths, host.readonly_paths, config.env, config.cmd, config.entrypoint,
    ):  # fmt: skip
        if texts:
            texts[:] = map(intern, texts)
