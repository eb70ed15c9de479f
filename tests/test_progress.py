"""What people see at a terminal while a run goes on: a real one, of 80 columns."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.screen import ROOT, displayed, sitting_at

GOLDEN = ROOT / "tests" / "golden" / "progress.txt"
COLUMNS = 80
PROGRAM = """
import sys
from bootstrap.events import HostFailed, PhaseDone, PhaseStarted, StepDone, Waiting
from bootstrap.output import Output
from bootstrap.spec import Host, Inventory

roles = {"cp1": "control-plane", "worker1": "worker", "worker2": "worker", "worker3": "worker"}
hosts = tuple(Host(name=name, address="192.0.2.1", roles=(role,)) for name, role in roles.items())
output = Output()
output.secrets.learn(b"token: abcdef.0123456789abcdef")
with output.run("init", Inventory(hosts=hosts), list(roles)) as tell:
    for name in ("cp1", "worker1", "worker2"):
        tell(PhaseStarted(name, "prepare"))
    tell(StepDone("worker1", "prepare", "/etc/hosts", "changed", "created"))
    tell(PhaseDone("worker1", "prepare", 3.0, changed=1, steps=2))
    tell(HostFailed("worker2", "prepare", ValueError("it is broken")))
    tell(PhaseDone("cp1", "prepare", 4.0, changed=0, steps=2))
    tell(PhaseStarted("cp1", "wait-control-plane"))
    tell(Waiting("cp1", "wait-control-plane", "abcdef.0123456789abcdef, and for what does not fit", 6.0, 60.0))
    sys.stdin.readline()
    tell(PhaseDone("cp1", "wait-control-plane", 7.0, changed=0, steps=1))
output.end(0, None)
"""


def watched(environment: Mapping[str, str]) -> tuple[list[str], list[str], bytes]:
    """Give what a terminal shows while cp1 waits, and at the end, and all that was written to it."""
    base = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "TERM": "xterm"}
    command = ["sh", "-c", 'stty -echo; read -r _; exec "$@"', "sh", sys.executable, "-c", PROGRAM]
    with sitting_at(command, streams=True, environment=base | environment) as (screen, process):
        screen.resize(COLUMNS, 24)
        os.write(screen.near, b"\n")  # begin, now that it has its size
        screen.until(b"waits for")
        begun = screen.shown.index(b"waits for")
        while b"x failed" not in screen.shown[begun:]:
            screen.shown += os.read(screen.near, 1000)
        waiting = displayed(screen.shown, COLUMNS)
        os.write(screen.near, b"\n")
        screen.until(b" in all")
        process.wait(timeout=60)
        screen.rest()
        return waiting, displayed(screen.shown, COLUMNS), screen.shown


def timeless(lines: list[str]) -> str:
    """Write lines without the times that differ from run to run."""
    text = re.sub(r"^-- [0-9.]+ s", "-- T", "\n".join(lines), flags=re.MULTILINE)
    return (
        re.sub(r"(wait-control-plane  )[0-9.]+ s", r"\1T", re.sub(r"[0-9.]+ s in all", "T in all", text)).strip() + "\n"
    )


def test_a_terminal_without_colour_locale_and_home_shows_where_each_host_is() -> None:
    waiting, ended, written = watched({"NO_COLOR": "1", "LANG": "C", "HOME": "/proc"})  # nothing can be written there
    shown = f"{timeless(waiting)}{'=' * COLUMNS}\n{timeless(ended)}"
    if os.environ.get("KUBESTRAP_UPDATE_GOLDEN"):
        GOLDEN.write_text(shown)
    assert shown == GOLDEN.read_text()
    assert shown.isascii()
    assert b"\x1b[3" not in written
    assert b"?25l" not in written  # whoever kills it has a cursor
    assert b"0123456789abcdef" not in written


def test_what_an_earlier_run_took_is_what_is_expected(tmp_path: Path) -> None:
    place = {"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    first, _, _ = watched(place)
    assert "about" not in "\n".join(first)
    again, ended, written = watched(place)
    (row,) = [line for line in again if "waits for" in line]
    assert re.search(r"wait-control-plane  [0-9.]+ s of about [0-9.]+ s", row)
    assert any(re.match(r"-- [0-9.]+ s of about [0-9.]+ s; 1 of 4 hosts at work", line) for line in again)
    assert b"\x1b[3" in written
    assert not any(line.startswith("-- ") for line in ended)
