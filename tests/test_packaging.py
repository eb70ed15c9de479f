"""The wheel and the sdist hold what the checkout holds, and the wheel runs where nothing but it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("bootstrap", "phases", "templates")


def run(command: Sequence[str | Path], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files() -> set[str]:
    """List the product's files as a wheel has them."""
    found = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            relative = path.relative_to(ROOT).as_posix()
            linked = relative.startswith(("bootstrap/phases", "bootstrap/templates"))
            if path.is_file() and "__pycache__" not in relative and not linked:
                found.add(relative if folder == "bootstrap" else f"bootstrap/{relative}")
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both, without fetching anything: the build's own requirements are locked with the others."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "hatchling", "build", "-d", folder], ROOT)
    return folder


def test_the_wheel_holds_every_file_of_the_product_once(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(files())


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], source)
    (again,), (wheel,) = tmp_path.glob("*.whl"), built.glob("*.whl")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_runs_in_an_environment_of_its_own(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    environment = tmp_path / "venv"
    venv.create(environment)
    python = environment / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel], tmp_path)
    (site,) = (environment / "lib").glob("python*/site-packages")
    (site / "locked.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # its requirements are those of the tests
    command = environment / "bin" / "kubestrap"
    assert run([command, "--version"], tmp_path).startswith("kubestrap ")
    assert "podSubnet" in run([command, "config", "defaults"], tmp_path)
    script = "import bootstrap, bootstrap.phases as p; print(bootstrap.__file__, len(p.INIT), len(p.JOIN))"
    assert run([python, "-c", script], tmp_path).startswith(str(site))


def test_the_version_is_the_same_everywhere() -> None:
    import tomllib

    import bootstrap

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == bootstrap.__version__


def test_the_lock_has_hashes_and_no_address_of_an_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#", "-"))]
    assert len(entries) > 20
    assert text.count("--hash=sha256:") >= len(entries)


def test_every_requirement_is_locked() -> None:
    import re
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["verify"],
        *project["dependency-groups"]["dev"],
    ]
    locked = {line.partition("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    names = {re.split(r"[<>=\[ ]", requirement)[0].lower() for requirement in wanted}
    assert names <= locked
