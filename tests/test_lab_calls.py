from __future__ import annotations

import time
from pathlib import Path

import pytest

from bootstrap.errors import LabError, LabTimedOut
from bootstrap.lab import calls


def test_the_answer_has_both_streams() -> None:
    assert calls.call("sh", "-c", "cat; echo err >&2", seconds=60, stdin="in") == calls.Answer(0, "in", "err\n")


def test_a_failure_tells_what_the_tool_said() -> None:
    with pytest.raises(LabError, match=r"(?s)sh -c .*exit 3.*\n  it broke"):
        calls.call("sh", "-c", "echo it broke >&2; exit 3", seconds=60)


def test_any_status_may_be_asked_for() -> None:
    assert calls.call("sh", "-c", "exit 3", seconds=60, any_status=True).status == 3


def test_a_tool_that_is_not_installed_is_named() -> None:
    with pytest.raises(LabError, match="no-such-tool is not installed"):
        calls.call("no-such-tool", seconds=60)


def test_a_tool_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(LabTimedOut, match="did not end within 1 seconds"):
        calls.call("sh", "-c", script, seconds=1)
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/status")
    deadline = time.monotonic() + 60
    while status.exists() and "zombie" not in status.read_text():
        assert time.monotonic() < deadline, "what the tool started goes on"
        time.sleep(0.05)


def test_system_tools_are_found_whatever_path_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert calls.find("ldconfig") in {"/usr/sbin/ldconfig", "/sbin/ldconfig"}
