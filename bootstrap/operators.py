"""Hooks on the operator's own machine: run to their end, and ended with this process, however that ends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from threading import Event

from bootstrap.errors import CommandTimedOut
from bootstrap.steps import OperatorHook
from bootstrap.transport.local import LocalHost

TOLD_BYTES = 2000
"""How much of what a hook said is told, the last of it."""

# Standard input is a line to this process: at its end, whoever is left of the hook's group is killed. It is told by a
# line of its own that the hook ended, as others that it started may hold the output open.
_LIFELINE = """
exec 3<&0 </dev/null
{ IFS= read -r _ <&3; kill -s KILL -- "-$$"; } >/dev/null 2>&1 &
lifeline=$!
%(environment)s %(command)s 3<&- 2>&1
status=$?
kill "$lifeline" 2>/dev/null
printf '\\n%(end)s %%s\\n' "$status"
"""
_END = "kubestrap-hook-ended"


class HookFailed(Exception):
    """A hook did not exit 0. `str()` says how it ended, and the last of what it said; `is_late` that it was ended."""

    def __init__(self, what: str, *, is_late: bool = False) -> None:
        super().__init__(what)
        self.is_late = is_late


def run(hook: OperatorHook, stop: Event) -> str:
    """Run `hook` on this machine, and give the last of what it said. It is killed as soon as `stop` is set.

    Raises `HookFailed`.
    """
    said: list[str] = []
    status: list[int] = []

    def hear(line: bytes) -> None:
        text = line.decode(errors="replace")
        if text.startswith(f"{_END} "):
            status.append(int(text.removeprefix(f"{_END} ")))
        elif not status:
            said.append(text)
            del said[: max(0, len(said) - TOLD_BYTES)]

    def lifeline() -> Iterator[bytes]:
        while not status and not stop.is_set():
            yield b""

    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in hook.environment)
    script = _LIFELINE % {"environment": environment, "command": shlex.join(hook.argv), "end": _END}
    try:
        result = LocalHost().run(script, stdin=lifeline(), seconds=hook.seconds, on_line=hear)
    except CommandTimedOut as error:
        if not status:
            raise HookFailed(_last(said), is_late=True) from error
    else:
        status = status or [result.status]
    if status[0]:
        raise HookFailed(f"it exited with {status[0]}\n{_last(said)}".strip())
    return _last(said)


def _last(said: list[str]) -> str:
    return "\n".join(said)[-TOLD_BYTES:].strip()
