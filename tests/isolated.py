"""This machine as a host with a /var/lib and a /run/kubestrap of its own: what scripts keep there stays in a test's."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost

_IN_OWN_STATE = (
    'mkdir -p /run/kubestrap "$0/.run" && mount --bind "$0/.run" /run/kubestrap && mount --bind "$0" /var/lib && '
    'mount --bind "$1" "$(readlink -f /bin/sh)" && exec sh -c "$2"'
)


class IsolatedHost(LocalHost):
    """Runs each command in a mount namespace in which `sh` is `shell`: whatever scripts start, they start with it.

    Programs that the machine `lacks` cannot be run in it.
    """

    def __init__(self, state: Path, name: str = "localhost", shell: str = "dash", lacks: Sequence[str] = ()) -> None:
        super().__init__(name)
        self._state = state
        self._hidden = [found for program in lacks if (found := shutil.which(program))]
        program = shutil.which(shell)
        assert program, f"install {shell} (apt-get install {shell})"
        self._shell = program

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        hiding = "".join(f"mount --bind /dev/null {shlex.quote(program)} && " for program in self._hidden)
        words = ["unshare", "-m", "sh", "-c", hiding + _IN_OWN_STATE, str(self._state), self._shell, command]
        inside = shlex.join(words)
        return super().run(inside, stdin=stdin, seconds=seconds, on_line=on_line)
