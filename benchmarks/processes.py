"""Commands as processes of their own, and what each of them took."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ran:
    """A command that succeeded: the time to its end, its processor time and that of what it waited for, its output."""

    seconds: float
    cpu: float
    stdout: str


def ran(*command: str | Path, limit: float = 3600, **environment: str) -> Ran:
    """Run `command` in the checkout, with more `environment`. Where it fails or takes `limit` seconds, all ends."""
    before = _cpu()
    began = time.monotonic()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{command}: {done.returncode}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}")
    return Ran(seconds, _cpu() - before, done.stdout)


def peak() -> float:
    """Give the most memory that this process has held, in MB; what it was forked from does not count."""
    status = Path("/proc/self/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) * 1024 / 1e6


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
