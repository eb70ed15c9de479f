from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from bootstrap import cli
from bootstrap.errors import ConfigError, HostsFailed, NotSupported, Unreachable

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden" / "help.txt"
GOOD = (
    "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\n"
    "hosts:\n  - {name: node1, address: 192.0.2.10, roles: [control-plane, worker]}\n"
)


def commands() -> Iterator[tuple[str, ...]]:
    """List every command and group, by its words."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*words, name))

    return below(typer.main.get_command(cli.command()), ())


def kubestrap(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    settings: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL, **options}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "bootstrap", *arguments],
        env=environment,
        text=True,
        timeout=120,
        check=False,
        **settings,
    )


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "80")

    def run(words: Sequence[str]) -> str:
        assert cli.run([*words, "--help"]) == 0
        return capsys.readouterr().out

    return run


def test_the_help_of_every_command_is_this(help_of: Any) -> None:
    told = "\n".join(f"$ {' '.join(('kubestrap', *words, '--help'))}\n{help_of(words)}" for words in commands())
    if os.environ.get("KUBESTRAP_UPDATE_GOLDEN"):
        GOLDEN.write_text(told)
    assert told == GOLDEN.read_text(), "if this is meant, run the test with KUBESTRAP_UPDATE_GOLDEN=1"


def test_every_help_fits_80_columns_and_says_what_the_command_does(help_of: Any) -> None:
    for words in commands():
        lines = help_of(words).splitlines()
        assert max(map(len, lines)) <= 80, words
        assert lines[2].startswith("  "), f"{words} has no help"


def test_help_imports_nothing_slow() -> None:
    script = (
        "import sys\nfrom bootstrap import cli\ncli.run(['--help'])\n"
        "slow = {'cryptography', 'jinja2', 'paramiko', 'pydantic', 'pytest', 'rich', 'testinfra', 'yaml', 'asyncio',"
        " 'bootstrap.errors', 'bootstrap.events', 'bootstrap.report'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_version_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kubestrap 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["no-such-command"],
        ["config", "validate", "--inventory"],
        ["config", "valid"],
        [],
        ["config"],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "Usage: kubestrap" in streams.err or streams.err.startswith("Error: ")


def test_a_valid_inventory_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(GOOD)
    assert cli.run(["config", "validate", "-i", str(path)]) == 0
    assert capsys.readouterr().out == f"{path} is valid: 1 host (1 control-plane, 1 worker).\n"


def test_mistakes_in_an_inventory_are_lines_that_begin_with_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(GOOD.replace("address", "adress").replace("kind", "kinds"))
    assert cli.run(["config", "validate", "-i", str(path)]) == 3
    streams = capsys.readouterr()
    assert streams.out == ""
    assert len(streams.err.splitlines()) == 3
    assert all(line.startswith(f"{path}:") for line in streams.err.splitlines())


def test_what_this_version_cannot_build_exits_with_12(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(f"{GOOD}cluster: {{networking: {{podSubnet: 'fd00:1::/56', serviceSubnet: 'fd00:2::/112'}}}}\n")
    assert cli.run(["config", "validate", "-i", str(path)]) == 12
    assert "IPv6 clusters" in capsys.readouterr().err


def unreadable(folder: Path) -> list[str]:
    (folder / "dir").mkdir()
    (folder / "bytes").write_bytes(bytes(range(256)))
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "empty").touch()
    return [str(folder / name) for name in ("missing", "dir", "bytes", "loop", "empty", "empty/below", "n" * 300)]


def test_files_that_cannot_be_used_are_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in [*unreadable(tmp_path), ""]:
        for command in ("validate", "defaults"):
            assert cli.run(["config", command, "-i", path]) == 3, path
            told = capsys.readouterr()
            assert told.out == ""
            assert len(told.err.splitlines()) == 1, path


def test_a_file_without_the_right_to_read_it_is_told_so(tmp_path: Path) -> None:
    secret = tmp_path / "inventory.yaml"
    secret.write_text(GOOD)
    secret.chmod(0)
    tmp_path.chmod(0o755)
    script = (
        "import os, sys\nfrom bootstrap import cli\n"
        "cli.run(['config', 'validate', '-i', '/nowhere'])\n"  # imports what the user below may not read
        "os.getuid() or os.setuid(65534)\n"
        "sys.exit(cli.run(['config', 'validate', '-i', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(secret)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Permission denied" in done.stderr


def test_defaults_print_an_inventory_that_is_valid(tmp_path: Path) -> None:
    shown = kubestrap("config", "defaults")
    assert (shown.returncode, shown.stderr) == (0, "")
    checked = kubestrap("config", "validate", "-i", "-", input=shown.stdout, stdin=None)
    assert (checked.returncode, checked.stdout) == (0, "stdin is valid: 1 host (1 control-plane, 1 worker).\n")


def test_defaults_fill_in_the_users_inventory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(GOOD.replace("node1", "mine"))
    assert cli.run(["config", "defaults", "-i", str(path)]) == 0
    text = capsys.readouterr().out
    assert "name: mine" in text
    assert "podSubnet: 10.244.0.0/16" in text


def test_no_one_reading_stdout_ends_the_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = kubestrap("config", "defaults", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (cli.STDOUT_GONE, "")


def test_a_closed_stdout_is_no_error() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m bootstrap --version >&- </dev/null'],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_told_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = kubestrap("config", "defaults", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "Error: No space left on device\n"


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    app = typer.Typer(add_completion=False)

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "command", lambda: app)
    return cli.run([])


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("bad file"), 3, "Error: bad file\n"),
        (NotSupported("not yet"), 12, "Error: not yet\n"),
        (HostsFailed({"w1": Unreachable("w1", "no answer")}), 5, "Error: w1: no answer\n"),
        (HostsFailed({"w1": Unreachable("w1", "no answer")}, ["w2"]), 8, "Error: w1: no answer\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (cli.Terminated(), 143, "Terminated.\n"),
        (typer.Abort(), 1, "Aborted.\n"),
        (typer.Exit(11), 11, ""),
        (SystemExit(7), 7, ""),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "Error: /x: No such file or directory\n"),
    ],
)
def test_every_way_to_end_has_its_exit_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error, monkeypatch) == code
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    "error", [KeyError("x"), BrokenPipeError(32, "Broken pipe"), ConnectionRefusedError(111, "no")]
)
def test_what_nobody_foresaw_is_called_a_bug_with_its_traceback(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error, monkeypatch) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "This is a bug in kubestrap" in told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_waiting_command(number: signal.Signals, code: int) -> None:
    script = (
        "import sys, time, typer\nfrom bootstrap import cli\napp = typer.Typer(add_completion=False)\n"
        "@app.command()\ndef wait() -> None:\n    print('ready', flush=True)\n"
        "    while True:\n        time.sleep(0.1)\n"
        "cli.command = lambda: app\nsys.argv = ['kubestrap']\ncli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # A signal that comes just before the system call is seen only after the next one.
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        assert process.returncode == code
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
