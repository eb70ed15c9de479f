"""Kill runs at random instants, as often as asked: `make soak KILLS=50`, not part of CI (a kill takes about 20 s).

A cluster is taken off two machines and made again, over and over; each command is killed and run again until it gets
to its end. Whenever all three are done the machines and the cluster must be as after an unbroken run.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from bootstrap.lab import labs
from tests.lab import kills, sameness
from tests.lab.clusters import Cluster

LAB = "soak"
COMMANDS = (["reset", "--yes"], ["init"], ["join"])


def soak(cluster: Cluster, wanted: int, chance: random.Random) -> None:
    """Kill at least `wanted` runs. Raises `AssertionError` where a run fails, or the end is not the same."""
    took = {"reset": 60.0}
    for command in COMMANDS[1:]:
        began = time.monotonic()
        cluster.kubestrap(*command)
        took[command[0]] = time.monotonic() - began
    unbroken = sameness.settled(cluster)
    killed = 0
    while killed < wanted:
        for command in COMMANDS:
            while True:
                seconds = chance.uniform(0, took[command[0]])
                if kills.kill_after(cluster, command, seconds):
                    break
                killed += 1
                _tell(f"{killed}: {command[0]} killed after {seconds:.2f} s")
        different = sameness.differences(unbroken, sameness.settled(cluster))
        assert different == [], different
        _tell("the same as an unbroken run")
    _tell(f"{killed} kills in a row, none needed a hand")


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Do it on machines of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    _tell(f"SEED={given.seed}")
    labs.down(LAB)
    try:
        with tempfile.TemporaryDirectory() as home:
            cluster = Cluster(labs.up(LAB, machines=2), Path(home))
            cluster.write_inventory([machine.name for machine in cluster.lab.machines])
            soak(cluster, given.kills, random.Random(given.seed))
    finally:
        labs.down(LAB)


if __name__ == "__main__":
    main()
