from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(f"import pytest\n{source}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.strict"]
    return subprocess.run(
        [*command, "--rootdir", str(folder), "-c", "/dev/null", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_run_in_which_every_test_ran_passes(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "class TestIt:\n    def test_one(self): pass\n@pytest.mark.parametrize('x', [1, 2])\ndef test_two(x): pass",
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def test_it(): pytest.skip('no')", "test_it: skipped"),
        ("pytest.skip('no', allow_module_level=True)", "skipped while collecting"),
        ("@pytest.mark.xfail\ndef test_it(): assert False", "test_it: xfail"),
        ("@pytest.mark.xfail\ndef test_it(): pass", "test_it: xfail"),
        ("def test_it(): pass\ndef test_it(): pass", "test_it (2): not collected"),
        ("x = 1", "no tests at all"),
    ],
)
def test_what_did_not_run_fails_the_run(tmp_path: Path, source: str, told: str) -> None:
    done = run(tmp_path, source)
    assert done.returncode != 0
    assert told in done.stdout
