"""Secrets typed at a real terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.screen import sitting_at

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
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt:
        said.append("interrupted")
thread.join()
print(*said, flush=True)
"""


def test_what_is_typed_is_not_shown() -> None:
    with sitting_at([sys.executable, "-c", PROGRAM]) as (screen, process):
        screen.until(b"Passphrase: ")
        assert not screen.echoes()
        os.write(screen.near, b"se cret\n")
        assert process.communicate(timeout=60)[0] == b"'se cret'\n"
        screen.until(b"\n")
        assert b"cret" not in screen.shown
        assert screen.echoes()


def test_an_interrupted_question_leaves_the_terminal_as_it_was() -> None:
    with sitting_at([sys.executable, "-c", PROGRAM]) as (screen, process):
        screen.until(b"Passphrase: ")
        process.send_signal(signal.SIGINT)
        assert b"cannot ask: the run ends" in process.communicate(timeout=60)[0]
        assert screen.echoes()


def test_the_end_of_input_is_no_answer() -> None:
    with sitting_at([sys.executable, "-c", PROGRAM]) as (screen, process):
        screen.until(b"Passphrase: ")
        os.write(screen.near, b"\x04")
        assert process.communicate(timeout=60)[0] == b"cannot ask: nothing was typed\n"


def test_without_a_terminal_nothing_is_asked() -> None:
    code = "from bootstrap.terminal import Terminal\nwith Terminal() as terminal: print(terminal.ask)"
    done = subprocess.run(
        [sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"
