"""The scenarios in molecule/, run as their users run them, on labs whose machines are prepared already."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bootstrap.lab import labs
from bootstrap.lab.labs import Lab
from tests.lab import sameness
from tests.lab.clusters import ROOT, Cluster


@dataclass(frozen=True)
class Done:
    """What molecule said, the state of the cluster that it made, and whether it took the lab away."""

    said: str
    state: sameness.State
    destroyed: bool


def done(lab: Lab, folder: Path) -> Done:
    """Run the scenario `default`, look at its cluster, and have molecule take the lab down."""
    said = run(lab, folder, "default")
    state = sameness.settled(Cluster(lab, folder))
    _molecule(lab, folder, "destroy", "-s", "default")
    return Done(said, state, lab.name not in labs.names())


def run(lab: Lab, folder: Path, scenario: str) -> str:
    """Run a scenario, which takes the lab as it finds it and leaves it, and give what molecule says.

    Raises `AssertionError` where a step of the scenario fails.
    """
    return _molecule(lab, folder, "test", "-s", scenario, "--destroy", "never")


def steps(said: str, scenario: str) -> list[str]:
    """List the steps of a scenario that molecule says went well."""
    return re.findall(rf"{scenario} > (\w+)\W+Executed: Successful", said.partition("DETAILS")[0])


def _molecule(lab: Lab, folder: Path, *arguments: str) -> str:
    programs = Path(sys.executable).parent
    ran = subprocess.run(
        [programs / "molecule", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "ANSIBLE_HOME": str(folder / "ansible"),
            "KUBESTRAP_MOLECULE_LAB": lab.name,
            "MOLECULE_EPHEMERAL_DIRECTORY": str(folder),
            "NO_COLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    assert ran.returncode == 0, f"molecule {' '.join(arguments)}: {ran.returncode}\n{ran.stdout[-20000:]}"
    return ran.stdout
