"""Calling the tools a lab is made with: each call has a limit, and an error that tells what the tool said."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bootstrap.errors import LabError, LabTimedOut

SHOWN_LINES = 8
SHOWN_WORDS = 4
_RUNTIME = ("--runtime", "runc")
_SYSTEM_FOLDERS = "/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a tool ended, and what it wrote."""

    status: int
    stdout: str
    stderr: str


def find(tool: str) -> str | None:
    """Give the absolute path of `tool`, from PATH or the folders of system tools; None where it is not installed."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}")


def call(tool: str, *arguments: str, seconds: float, stdin: str = "", any_status: bool = False) -> Answer:
    """Run `tool` with `arguments` and give its answer.

    Raises `LabError` where it is missing or (unless `any_status`) exits non-zero, `LabTimedOut` after `seconds`.
    """
    path = find(tool)
    if path is None:
        raise LabError(f"{tool} is not installed")
    # A session of its own, so that a tool that hangs is ended together with what it started.
    process = subprocess.Popen(
        [path, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise LabTimedOut(f"{_shown(tool, arguments)} did not end within {seconds:g} seconds") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode != 0 and not any_status:
        raise LabError(_failure(tool, arguments, process.returncode, stderr or stdout))
    return Answer(process.returncode, stdout, stderr)


def podman(*arguments: str, seconds: float = 180, stdin: str = "", any_status: bool = False) -> Answer:
    """Run podman with runc (crun 1.8 refuses hosts with hybrid cgroups). Otherwise as `call`."""
    return call("podman", *_RUNTIME, *arguments, seconds=seconds, stdin=stdin, any_status=any_status)


def _failure(tool: str, arguments: Sequence[str], status: int, said: str) -> str:
    lines = [f"  {line}" for line in said.strip().splitlines()[-SHOWN_LINES:]]
    return "\n".join([f"{_shown(tool, arguments)} failed (exit {status}):", *(lines or ["  it said nothing"])])


def _shown(tool: str, arguments: Sequence[str]) -> str:
    words = [word for word in arguments if "\n" not in word and word not in _RUNTIME]
    return " ".join([tool, *words[:SHOWN_WORDS]])


def _end(process: subprocess.Popen[str]) -> None:
    """End the tool and what it started: asked first, so that it can tidy up, and not asked after 10 seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
