"""What shells complete: asked of real ones, at a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootstrap import cli
from tests.screen import ROOT, sitting_at

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(kubestrap completion bash)"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source <(kubestrap completion zsh)"),
    "fish": (["fish", "--no-config", "-i"], "kubestrap completion fish | source"),
}


@pytest.fixture
def home(tmp_path: Path, path_with_command: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with an inventory and another one, and have the command on PATH."""
    monkeypatch.setenv("PATH", path_with_command)
    for file, worker in (("inventory.yaml", "hydrogen"), ("other.yaml", "oxygen")):
        (tmp_path / file).write_text(
            "hosts:\n  - {name: lithium, address: 192.0.2.10, roles: [control-plane]}\n"
            f"  - {{name: {worker}, address: 192.0.2.11, roles: [worker]}}\n"
        )
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8"}


COMPLETED = {
    "comple": "completion",
    "init --limit hyd": "hydrogen",
    "remove -i other.yaml oxy": "oxygen",
    "diff join --until kubelet-wait": "kubelet-wait-bootstrap",
    "init --skip-phases addon/fl": "addon/flannel",
    "explain inventory-too-d": "inventory-too-deep",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands_hosts_phases_and_mistakes(shell: str, home: Path) -> None:
    program, setting_up = SHELLS[shell]
    to_the_beginning, tab = b"\x01", b"\t"
    with sitting_at(program, streams=True, environment=environment(home)) as (screen, _):
        os.write(screen.near, f"cd {home}; {setting_up}; echo rea''dy\n".encode())
        screen.until(b"ready\r")
        for typed, completed in COMPLETED.items():
            os.write(screen.near, f"kubestrap {typed}".encode() + tab + to_the_beginning + b"echo it is: \n")
            before = " ".join(["kubestrap", *typed.split()[:-1]])
            screen.until(f"it is: {before} {completed}\r".encode())


def asked(home: Path, *words: str) -> Sequence[str]:
    """Ask for what completes the last of `words`, as bash does."""
    line = {"COMP_WORDS": "\n".join(["kubestrap", *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        ["kubestrap"],
        env=environment(home) | line | {"_KUBESTRAP_COMPLETE": "complete_bash"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_after_a_comma_those_that_are_named_are_not_offered_again(home: Path) -> None:
    assert asked(home, "init", "--limit", "lithium,") == ["lithium,hydrogen"]
    assert asked(home, "join", "--skip-phases", "prepare,etcd") == ["prepare,etcd-join"]
    assert asked(home, "join", "--skip-phases", "etcd-join,etcd") == []


def test_phases_are_those_of_the_workflow(home: Path) -> None:
    assert "addon/coredns" in asked(home, "init", "--until", "")
    assert "addon/coredns" not in asked(home, "join", "--until", "")
    assert "etcd-join" in asked(home, "plan", "join", "--skip-phases", "etcd")
    assert "etcd-join" not in asked(home, "plan", "init", "--skip-phases", "etcd")


def test_the_forms_of_output_are_offered(home: Path) -> None:
    assert asked(home, "verify", "--output", "") == ["text", "json"]


@pytest.mark.parametrize("text", [None, "hosts: [", "hosts: 1", "hosts: [1]", "- a", "\0", "hosts: [{address: a}]"])
def test_an_inventory_that_cannot_be_read_offers_nothing_and_says_nothing(text: str | None, home: Path) -> None:
    (home / "inventory.yaml").unlink()
    if text:
        (home / "inventory.yaml").write_text(text)
    assert asked(home, "init", "--limit", "") == []


def test_completing_imports_nothing_slow(home: Path) -> None:
    script = (
        "import sys\nfrom bootstrap import cli, completing\n"
        "completing.complete(cli.command(), 'complete_bash')\n"
        "print([name for name in ('cryptography', 'jinja2', 'paramiko', 'bootstrap.spec') if name in sys.modules])"
    )
    line = {"COMP_WORDS": "kubestrap join --limit ", "COMP_CWORD": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(home) | line,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["lithium", "hydrogen", "[]"]


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", "csh"]) == 2
    assert "bash" in capsys.readouterr().err
