"""The scenario `molecule/default`, run as its users run it, on a lab whose machines are prepared already."""

from __future__ import annotations

import os
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
    """Run the scenario, which takes the lab as it finds it, look at its cluster, and have molecule take the lab down.

    Raises `AssertionError` where a step of the scenario fails.
    """
    said = _molecule(lab, folder, "test", "--destroy", "never")
    state = sameness.settled(Cluster(lab, folder))
    _molecule(lab, folder, "destroy")
    return Done(said, state, lab.name not in labs.names())


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
