"""What README, Makefile and CI say to each other."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bootstrap.bundle import debian
from bootstrap.lab import needs

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
SCRIPTS = ["bin/kubestrap", "tools/setup", "tools/cluster", ".ci/run"]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def packages() -> set[str]:
    """List the Debian packages that `make setup-test` installs."""
    done = subprocess.run(
        ["make", "-s", "-n", "-C", str(ROOT), "setup-test"], capture_output=True, text=True, check=True, timeout=60
    )
    line = next(line for line in done.stdout.splitlines() if "tools/setup" in line)
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_every_make_command_of_the_documents_exists(path: Path) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", path.read_text())) | set(
        re.findall(r"^ *make ([a-z-]+)", path.read_text(), re.MULTILINE)
    )
    assert named <= targets()


def test_the_readme_shows_both_commands() -> None:
    assert {"make cluster", "make test"} <= set(
        re.findall(r"^ *(make [a-z]+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    )


def test_ci_runs_the_readmes_command_for_all_tests() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-1] == "exec make test"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_run_and_parsed(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    shell = path.read_text().splitlines()[0].removeprefix("#!")
    subprocess.run([shell, "-n", str(path)], check=True, timeout=60)


def test_set_up_installs_whatever_building_and_labs_need() -> None:
    essential = {"bash", "coreutils", "libc-bin"}
    compiling = {"gcc", "libc6-dev", "libseccomp-dev", "pkg-config"}
    wanted = {*debian.PACKAGES.values(), *needs.PACKAGES.values(), *compiling} - essential
    assert wanted <= packages()
