"""`molecule test`, on machines that are prepared already. Costs about three minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bootstrap.lab import labs
from tests.lab.clusters import ROOT
from tests.lab.conftest import lab_of


def test_the_scenario_makes_a_cluster_changes_nothing_again_and_finds_it_good(prepared: str, tmp_path: Path) -> None:
    with lab_of("molecule", machines=2, snapshot=prepared, keep=False) as lab:
        ran = subprocess.run(
            [str(Path(sys.executable).with_name("molecule")), "test"],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "KUBESTRAP_MOLECULE_LAB": lab.name,
                "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path),
                "NO_COLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout[-20000:] + ran.stderr[-5000:]
        assert lab.name not in labs.names()
