"""The local transport keeps the promises of transport.base."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from bootstrap.errors import CommandTimedOut
from bootstrap.transport.base import Host
from bootstrap.transport.local import LocalHost


def test_it_is_a_host() -> None:
    host: Host = LocalHost("here")
    assert host.name == "here"


def test_status_and_both_streams_come_back() -> None:
    result = LocalHost().run("echo out; echo err >&2; exit 3", seconds=60)
    assert (result.status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_input_may_come_in_chunks_larger_than_a_pipe() -> None:
    result = LocalHost().run("wc -c", stdin=(b"x" * 100_000 for _ in range(10)), seconds=60)
    assert result.stdout.strip() == b"1000000"


def test_output_while_input_is_still_written_does_not_dead_lock() -> None:
    result = LocalHost().run("cat", stdin=b"y" * 5_000_000, seconds=60)
    assert len(result.stdout) == 5_000_000


def test_a_command_need_not_read_its_input() -> None:
    assert LocalHost().run("exit 0", stdin=b"z" * 5_000_000, seconds=60).status == 0


def test_lines_are_handed_on_in_order_and_the_last_need_not_end() -> None:
    seen: list[bytes] = []
    result = LocalHost().run(r"printf 'a\nb\n\nc'", seconds=60, on_line=seen.append)
    assert seen == [b"a", b"b", b"", b"c"]
    assert result.stdout == b""


def test_only_the_end_of_stderr_is_kept() -> None:
    result = LocalHost().run("head -c 200000 /dev/zero >&2; echo end >&2", seconds=60)
    assert len(result.stderr) == 64 * 1024
    assert result.stderr.endswith(b"end\n")


def test_a_command_that_never_ends_is_ended_with_its_children() -> None:
    with pytest.raises(CommandTimedOut) as caught:
        LocalHost("m1").run("sleep 98765.4321 & wait", seconds=0.5)
    assert "m1" in str(caught.value)
    assert gone("sleep 98765[.]4321")


def test_what_holds_the_streams_open_after_the_command_is_ended_too() -> None:
    with pytest.raises(CommandTimedOut):
        LocalHost("m1").run("sleep 98765.1234 & exit 0", seconds=0.5)
    assert gone("sleep 98765[.]1234")


def gone(pattern: str) -> bool:
    for _ in range(300):
        if subprocess.run(["pgrep", "-f", pattern], check=False, capture_output=True).returncode == 1:
            return True
        time.sleep(0.1)
    return False


def test_an_input_that_has_nothing_yet_does_not_keep_output_waiting() -> None:
    lines: list[bytes] = []

    def answer() -> Iterator[bytes]:
        yield b"one\n"
        while not lines:
            yield b""
        yield b"two\n"

    result = LocalHost().run("cat", stdin=answer(), seconds=60, on_line=lines.append)
    assert (result.status, lines) == (0, [b"one", b"two"])
