"""The wheel and the sdist hold what the checkout holds, and wheel and zipapp run where nothing else is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools import requirements

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
    (man_page,) = set(names) - files()
    assert man_page.endswith(".data/data/share/man/man1/kubestrap.1")
    assert sorted(names) == sorted({*files(), man_page})


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], source)
    (again,), (wheel,) = tmp_path.glob("*.whl"), built.glob("*.whl")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel where nothing is but what it says that it needs, and give the environment's Python."""
    (wheel,) = built.glob("*.whl")
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment)
    python = environment / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel], ROOT)
    (site,) = (environment / "lib").glob("python*/site-packages")
    for one in requirements.needed():  # as they are installed here: fetching them is no part of this
        for name in {name.partition("/")[0] for name, _ in requirements.files(one)}:
            (site / name).symlink_to(Path(str(one.locate_file(name))))
    return python


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yaml"
    path.write_text(
        "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\n"
        "hosts:\n  - {name: cp1, address: 192.0.2.10, roles: [control-plane]}\n"
    )
    return path


def test_the_wheel_runs_with_nothing_but_what_it_says_that_it_needs(
    installed: Path, inventory: Path, tmp_path: Path
) -> None:
    command = installed.with_name("kubestrap")
    assert run([command, "--version"], tmp_path).startswith("kubestrap ")
    assert "Usage: kubestrap" in run([command, "--help"], tmp_path)
    assert (installed.parents[1] / "share" / "man" / "man1" / "kubestrap.1").is_file()
    plan = run([command, "plan", "init", "-i", inventory], tmp_path)
    assert plan.startswith("cp1:\n")
    assert run([installed, ROOT / "examples" / "cluster.py", "plan", inventory], tmp_path).startswith(plan)
    script = "import bootstrap, bootstrap.phases as p; print(bootstrap.__file__, len(p.INIT), len(p.JOIN))"
    assert run([installed, "-c", script], tmp_path).startswith(str(installed.parents[1]))


def test_the_installed_library_is_typed(installed: Path, tmp_path: Path) -> None:
    """Every mistake is marked as one that mypy has to find; it complains of marks that it has no use for."""
    script = tmp_path / "program.py"
    script.write_text(
        "from bootstrap import Cluster, Request\n"
        "from bootstrap.events import Event\n"
        "cluster = Cluster.load('inventory.yaml')\n"
        "names: list[str] = [host.name for host in cluster.inventory.hosts]\n"
        "events: list[Event] = list(cluster.apply('init', Request(limit=names)))\n"
        "Cluster.load(1)  # type: ignore[arg-type]\n"
        "cluster.apply('begin')  # type: ignore[arg-type]\n"
        "cluster.diff('init').drifts  # type: ignore[attr-defined]\n"
        "from bootstrap import Clusters  # type: ignore[attr-defined]\n"
    )
    (shown,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "library.md").read_text(), re.MULTILINE | re.DOTALL
    )
    page = tmp_path / "page.py"
    page.write_text(shown)
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        tmp_path / "cache",
        "--python-executable",
        installed,
    ]
    run([*mypy, script, page, ROOT / "examples" / "cluster.py"], tmp_path)


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("zipapp") / "kubestrap.pyz"
    run([sys.executable, "-m", "tools.zipapp", output], ROOT)
    return output


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Make a Python that has nothing installed."""
    venv.create(tmp_path / "bare")
    return tmp_path / "bare" / "bin" / "python"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kubestrap" / "zipapp"


def test_the_zipapp_runs_where_nothing_is_installed(
    zipapp: Path, bare: Path, cache: Path, inventory: Path, tmp_path: Path
) -> None:
    assert run([bare, "-I", zipapp, "plan", "init", "-i", inventory], tmp_path).startswith("cp1:\n")
    (unpacked,) = (path for path in cache.iterdir() if path.is_dir())
    assert unpacked.stat().st_mode & 0o777 == 0o700
    before = unpacked.stat().st_mtime_ns
    assert "containerd-service" in run([bare, zipapp, "verify", "--list", "-i", inventory], tmp_path)
    assert unpacked.stat().st_mtime_ns == before
    assert zipapp.read_bytes().startswith(b"#!/usr/bin/env python3")
    assert os.access(zipapp, os.X_OK)


def test_a_zipapp_that_was_killed_while_it_unpacked_starts_the_next_time(
    zipapp: Path, bare: Path, cache: Path, tmp_path: Path
) -> None:
    def folders() -> list[Path]:
        return [path for path in cache.glob("*") if path.is_dir()]

    with subprocess.Popen([bare, zipapp, "--version"], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not folders() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
    assert [path.suffix for path in folders()] == [".partial"]
    both = [subprocess.Popen([bare, zipapp, "--version"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert all(each.communicate(timeout=120)[0].startswith("kubestrap ") for each in both)
    assert [path.suffix for path in folders()] == [""]


def test_a_zipapp_that_cannot_be_unpacked_says_where_and_what_to_do(
    zipapp: Path, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = subprocess.run([bare, zipapp, "--version"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {tmp_path / 'file'}")
    assert "set XDG_CACHE_HOME" in done.stderr


def test_a_zipapp_of_another_python_is_refused(zipapp: Path, bare: Path, cache: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(zipapp) as archive, zipfile.ZipFile(tmp_path / "other.pyz", "w") as other:
        other.writestr("__main__.py", archive.read("__main__.py"))
        other.writestr("made.json", json.dumps(json.loads(archive.read("made.json")) | {"python": [3, 9]}))
    done = subprocess.run(
        [bare, tmp_path / "other.pyz", "--version"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "made for Python 3.9" in done.stderr
    assert not cache.exists()


def test_the_zipapp_of_the_same_contents_is_the_same_file(zipapp: Path, tmp_path: Path) -> None:
    run([sys.executable, "-m", "tools.zipapp", tmp_path / "again.pyz"], ROOT)
    assert (tmp_path / "again.pyz").read_bytes() == zipapp.read_bytes()


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
