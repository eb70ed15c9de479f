"""Tables of medians, and the machine that they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path


def machine() -> str:
    """Describe this machine in one line."""
    model = _first("/proc/cpuinfo", "model name")
    gib = int(_first("/proc/meminfo", "MemTotal").split()[0]) / 1024**2
    busy = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} CPUs ({model}), {gib:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}; load when it ended: {busy:.1f}"
    )


def medians(title: str, rows: Mapping[str, Sequence[float]], unit: str = "s") -> None:
    """Print median, least and most of each row."""
    width = max(len(name) for name in rows)
    print(f"\n{title}\n{'':<{width}}  {'runs':>5}  {'median':>9}  {'least':>9}  {'most':>9}  {unit}")
    for name, values in rows.items():
        middle = statistics.median(values)
        print(f"{name:<{width}}  {len(values):>5}  {middle:>9.2f}  {min(values):>9.2f}  {max(values):>9.2f}")


def ratio(what: str, above: Sequence[float], below: Sequence[float], goal: float | None) -> None:
    """Print the ratio of two medians, beside what it should be at most if there is such a goal."""
    value = statistics.median(above) / statistics.median(below)
    print(f"{what}: {value:.2f}" + (f" (goal: at most {goal})" if goal else ""))


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"
