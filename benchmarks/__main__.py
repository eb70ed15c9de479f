"""`python -m benchmarks NAME... [--runs N]`."""

from __future__ import annotations

import argparse

from benchmarks import clusters, faults, gap, links, logins, machines, operator, preflight
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
    "help": operator.help_,
    "jump100": logins.jump100,
}
OPERATORS = {"plan5000", "help", "jump100"}
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
