"""A real pseudo terminal that a program is run at, and what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Screen:
    """A pseudo terminal, and what it shows."""

    def __init__(self, near: int, far: int) -> None:
        self.near = near
        self.far = far
        self.shown = b""

    def until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self.near, 1000)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.far)[3] & termios.ECHO)


@contextmanager
def sitting_at(
    arguments: Sequence[str], *, streams: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Screen, subprocess.Popen[bytes]]]:
    """Run a program whose terminal is a new one, and whose stdin and stdout are not, unless its `streams` are to be."""
    near, far = pty.openpty()
    process = subprocess.Popen(
        arguments,
        stdin=far if streams else subprocess.DEVNULL,
        stdout=far if streams else subprocess.PIPE,
        stderr=far if streams else subprocess.PIPE,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(far, termios.TIOCSCTTY, 0),
        pass_fds=[far],
        cwd=ROOT,
    )
    try:
        yield Screen(near, far), process
    finally:
        process.kill()
        process.communicate()
        os.close(near)
        os.close(far)
