"""The log files of runs: one for each, of its events as JSON lines, readable by their owner alone."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

KEPT = 20
"""How many logs of a cluster are kept, the newest."""


def folder(cluster: str, environment: Mapping[str, str]) -> Path:
    """Say where the logs of the cluster so named are kept: under XDG_STATE_HOME, or ~/.local/state."""
    base = environment.get("XDG_STATE_HOME", "")
    state = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return state / "kubestrap" / "logs" / cluster


def create(place: Path, command: str, time: datetime.datetime) -> tuple[Path, TextIO]:
    """Begin the log of a run in the folder `place`, 0600 in folders of 0700, and remove logs beyond the newest.

    Raises `OSError` where it cannot be written.
    """
    for path in (*reversed(place.parents[:2]), place):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    path = place / f"{stamp}-{command.replace(' ', '-')}.jsonl"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    for old in sorted(place.glob("*.jsonl"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path, os.fdopen(handle, "w", encoding="utf-8", buffering=1)
