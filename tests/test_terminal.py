"""Secrets typed at a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = """
import threading
from bootstrap.terminal import Terminal
from bootstrap.transport.keyring import CannotAsk

with Terminal() as terminal:
    said = []

    def work():
        try:
            said.append(repr(terminal.ask("Passphrase: ")))
        except CannotAsk as error:
            said.append(f"cannot ask: {error}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt:
        said.append("interrupted")
thread.join()
print(*said, flush=True)
"""


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
def sitting_at() -> Iterator[tuple[Screen, subprocess.Popen[bytes]]]:
    near, far = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(far, termios.TIOCSCTTY, 0),
        pass_fds=[far],
        cwd=Path(__file__).parent.parent,
    )
    try:
        yield Screen(near, far), process
    finally:
        process.kill()
        process.communicate()
        os.close(near)
        os.close(far)


def test_what_is_typed_is_not_shown() -> None:
    with sitting_at() as (screen, process):
        screen.until(b"Passphrase: ")
        assert not screen.echoes()
        os.write(screen.near, b"se cret\n")
        assert process.communicate(timeout=60)[0] == b"'se cret'\n"
        screen.until(b"\n")
        assert b"cret" not in screen.shown
        assert screen.echoes()


def test_an_interrupted_question_leaves_the_terminal_as_it_was() -> None:
    with sitting_at() as (screen, process):
        screen.until(b"Passphrase: ")
        process.send_signal(signal.SIGINT)
        assert b"cannot ask: the run ends" in process.communicate(timeout=60)[0]
        assert screen.echoes()


def test_the_end_of_input_is_no_answer() -> None:
    with sitting_at() as (screen, process):
        screen.until(b"Passphrase: ")
        os.write(screen.near, b"\x04")
        assert process.communicate(timeout=60)[0] == b"cannot ask: nothing was typed\n"


def test_without_a_terminal_nothing_is_asked() -> None:
    code = "from bootstrap.terminal import Terminal\nwith Terminal() as terminal: print(terminal.ask)"
    done = subprocess.run(
        [sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"
