"""A real pseudo terminal that a program is run at, and what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
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

    def rest(self) -> None:
        """Take what is there to be read."""
        while select.select([self.near], [], [], 0)[0]:
            self.shown += os.read(self.near, 1000)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

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


def displayed(written: bytes, columns: int) -> list[str]:
    """Give the lines that a terminal of so many columns shows after all that was `written` to it, as plain text."""
    lines = [""]
    row = column = 0
    for code, letter in re.findall(r"\x1b\[([?0-9;]*[A-Za-z])|(.)", written.decode(), re.DOTALL):
        if code.endswith("m"):
            continue
        if code == "2K":
            lines[row] = ""
        elif code.endswith("A"):
            row -= int(code[:-1] or 1)
        elif letter == "\r":
            column = 0
        elif letter == "\n":
            row += 1
        else:
            assert letter >= " ", f"the terminal is told {code or letter!r}"
            row, column = (row + 1, 0) if column == columns else (row, column)
            lines += [""] * (row + 1 - len(lines))
            lines[row] = f"{lines[row][:column]:<{column}}{letter}{lines[row][column + 1 :]}"
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]
