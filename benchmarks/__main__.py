"""`python -m benchmarks NAME... [--runs N]`."""

from __future__ import annotations

import argparse

from benchmarks import clusters, faults, files, gap, links, logins, machines, operator, preflight, send
from benchmarks.report import machine

BENCHMARKS = {
    "init": clusters.init,
    "join": clusters.join,
    "workers": clusters.workers,
    "ha": clusters.ha,
    "third": clusters.third,
    "masters": clusters.masters,
    "replacement": clusters.replacement,
    "rerun": clusters.rerun,
    "roundtrips": links.roundtrips,
    "diagnosis": faults.diagnosis,
    "kill": faults.kill,
    "gap": gap.gap,
    "preflight": preflight.preflight,
    "plan5000": operator.plan5000,
    "grow": operator.grow,
    "help": operator.help_,
    "completion": operator.completion,
    "size": operator.size,
    "jump100": logins.jump100,
    "files": files.files,
    "noop": files.noop,
    "memory": files.memory,
    "send": send.send,
}
OPERATORS = {"plan5000", "grow", "help", "completion", "size", "jump100", "files", "noop", "memory", "send"}
"""Those that need no machines."""


def main() -> None:
    """Run benchmarks one after the other, and print what they find."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure kubestrap on this machine.")
    names = "; ".join(f"{name}: {(function.__doc__ or '').strip()}" for name, function in BENCHMARKS.items())
    parser.add_argument("names", nargs="+", choices=BENCHMARKS, help=names)
    parser.add_argument("--runs", type=int, default=5, help="how many runs of each side (default: 5)")
    given = parser.parse_args()
    try:
        for name in given.names:
            BENCHMARKS[name](given.runs)
            print(f"\n{machine()}", flush=True)
    finally:
        if not OPERATORS.issuperset(given.names):
            machines.forget()


main()
