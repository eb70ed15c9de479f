"""testinfra over a connection of ours: its own backends know neither our host key checks nor our jump hosts."""

from __future__ import annotations

from typing import Any

import testinfra.host  # type: ignore[import-untyped]
from testinfra.backend.base import BaseBackend  # type: ignore[import-untyped]

from bootstrap.transport.base import Host

SECONDS = 60
"""The limit of one command of a check."""


class Backend(BaseBackend):  # type: ignore[misc]  # testinfra has no types
    """A testinfra backend whose commands go over an open connection, as root."""

    NAME = "kubestrap"

    def __init__(self, host: Host) -> None:
        super().__init__(host.name)
        self._connection = host
        self._encoding = "UTF-8"  # not asked of a Python on the machine, which need not be there

    def run(self, command: str, *args: str, **_: Any) -> Any:
        """Run a command of testinfra, with `args` quoted into it. Raises `HostError`."""
        line = self.get_command(command, *args)
        result = self._connection.run(line, seconds=SECONDS)
        return self.result(result.status, line.encode(), result.stdout, result.stderr)


def machine(host: Host) -> Any:
    """Give `host` as testinfra's `Host`, which is what pytest fixtures of that name give too."""
    backend = Backend(host)
    seen = testinfra.host.Host(backend)
    backend.set_host(seen)
    return seen
