"""Root by real sudo, with real sudoers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Server, both, inventory
from sudoers import PASSWORD, sudoers

from bootstrap.errors import CommandTimedOut, ConfigError, SudoPasswordWrong, SudoRefused
from bootstrap.transport.keyring import CannotAsk, Keyring
from bootstrap.transport.ssh import SshHost, connect
from tests.screen import ROOT, sitting_at

LIMIT = 120.0


@pytest.fixture(scope="module")
def machine() -> Iterator[Server]:
    with sudoers() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\nnot this\n")
    path.chmod(0o600)
    return path


def login(server: Server, user: str, file: Path | None = None, keyring: Keyring | None = None) -> SshHost:
    host = server.host(user=user, sudo_password_file=str(file) if file else None)
    connected = connect(inventory(host), host, keyring=keyring)
    assert isinstance(connected, SshHost)
    return connected


@pytest.mark.parametrize("user", ["free", "asked", "askedcsh", "once", "tty", "both", "bothcsh"])
@both
def test_f10_commands_run_as_root_whatever_sudo_wants(machine: Server, file: Path, user: str) -> None:
    with login(machine, user, file) as host:
        result = host.run('id -u; pwd; cat; echo "it\'s err" >&2; exit 3', stdin=b"\x00data\xff\r\n", seconds=LIMIT)
        assert (result.status, result.stdout, result.stderr) == (3, b"0\n/\n\x00data\xff\r\n", b"it's err\n")
        big = os.urandom(2_000_000)
        assert host.run("cat", stdin=iter([big, b"", big]), seconds=LIMIT).stdout == big + big


@pytest.mark.parametrize("user", ["asked", "both"])
@both
def test_f10_input_that_comes_once_is_kept_until_sudo_has_its_password(machine: Server, file: Path, user: str) -> None:
    with login(machine, user, file) as host:
        assert host.run("cat", stdin=iter([b"one ", b"two"]), seconds=LIMIT).stdout == b"one two"


@pytest.mark.parametrize("user", ["asked", "once"])
@both
def test_f10_a_wrong_password_is_told_as_such_and_tried_once(machine: Server, file: Path, user: str) -> None:
    file.write_text("wrong\n")
    with login(machine, user, file) as host:
        with pytest.raises(
            SudoPasswordWrong, match=f"^m1: sudo does not take the password .* user {user}; .* once"
        ) as told:
            host.run("id -u", stdin=b"some input", seconds=LIMIT)
        assert "wrong" not in str(told.value).replace("the password", "")


@both
def test_f10_a_password_is_asked_for_once_for_all_hosts(machine: Server) -> None:
    questions: list[str] = []

    def answer(prompt: str) -> str:
        questions.append(prompt)
        return PASSWORD

    keyring = Keyring(answer)
    results: list[bytes] = []

    def work(user: str) -> None:
        with login(machine, user, keyring=keyring) as host:
            results.append(host.run("id -u", seconds=LIMIT).stdout)

    threads = [threading.Thread(target=work, args=(user,)) for user in ("asked", "asked", "asked", "free")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"0\n"] * 4
    assert questions == ["[sudo] password for asked, on all hosts that ask: "]


@both
def test_f10_without_a_password_it_is_said_where_to_put_it(machine: Server) -> None:
    with (
        login(machine, "asked") as host,
        pytest.raises(
            SudoRefused,
            match=r"m1: sudo wants a password of user asked, and there is no terminal .*--sudo-password-file",
        ),
    ):
        host.run("id -u", seconds=LIMIT)

    def nobody(_: str) -> str:
        raise CannotAsk("nobody answered within 300 s")

    with login(machine, "asked", keyring=Keyring(nobody)) as host, pytest.raises(SudoRefused, match="nobody answered"):
        host.run("id -u", seconds=LIMIT)


@both
def test_f10_a_user_who_may_not_use_sudo_is_told_in_its_words(machine: Server, file: Path) -> None:
    with (
        login(machine, "nobodys", file) as host,
        pytest.raises(
            SudoRefused, match=r"sudo does not give root to user nobodys; it says: .*nobodys is not in the sudoers file"
        ),
    ):
        host.run("id -u", seconds=LIMIT)


@both
def test_f10_a_machine_without_sudo_is_said_to_be_so(machine: Server) -> None:
    with (
        login(machine, "without") as host,
        pytest.raises(SudoRefused, match=r"there is no sudo on the machine. Install it"),
    ):
        host.run("id -u", seconds=LIMIT)


def written(machine: Server, folder: Path) -> Path:
    """An inventory of the one machine, whose user is asked for a password."""
    file = folder / "inventory.yaml"
    file.write_text(
        "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\nhosts:\n"
        "  - name: m1\n    address: 127.0.0.1\n    roles: [control-plane]\n"
        f"    ssh: {{user: asked, port: {machine.port}, identityFile: {machine.user_key},"
        f" knownHostsFile: {machine.known_hosts}}}\n"
    )
    return file


def test_f10_the_command_line_takes_the_password_from_a_file(machine: Server, file: Path, tmp_path: Path) -> None:
    def unlock(source: str, given: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "bootstrap", "unlock", "-i", str(written(machine, tmp_path))]
        command += ["--sudo-password-file", source]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=ROOT)
        return done.returncode, done.stderr

    assert unlock(str(file), "") == (0, "No machine that answers is locked.\n")
    assert unlock("-", PASSWORD) == (0, "No machine that answers is locked.\n")
    code, told = unlock("-", "wrong")
    assert code == SudoPasswordWrong.exit_code
    assert "m1: sudo does not take the password" in told


def test_f10_the_command_line_asks_for_the_password_at_the_terminal(machine: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bootstrap", "unlock", "-i", str(written(machine, tmp_path))]
    with sitting_at(command) as (screen, process):
        screen.until(b"[sudo] password for asked, on all hosts that ask: ")
        assert not screen.echoes()
        os.write(screen.near, PASSWORD.encode() + b"\n")
        _, told = process.communicate(timeout=LIMIT)
        assert (process.returncode, told) == (0, b"No machine that answers is locked.\n")
        assert screen.echoes()


@both
def test_f10_a_command_by_password_that_never_ends_is_ended(machine: Server, file: Path, tmp_path: Path) -> None:
    with login(machine, "both", file) as host:
        host.run(":", seconds=LIMIT)
        with pytest.raises(CommandTimedOut):
            host.run(f"echo $$ >{tmp_path}/pid; sleep 600", seconds=3)
        pid = (tmp_path / "pid").read_text().strip()
        assert host.run(f"while kill -0 {pid} 2>/dev/null; do sleep 0.1; done", seconds=LIMIT).status == 0


@both
def test_f10_the_password_is_in_no_argument_environment_or_log(machine: Server, file: Path) -> None:
    secret = PASSWORD.encode()
    seen: list[bytes] = []

    def look(_: bytes) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    seen.append((process / name).read_bytes())
                except OSError:
                    continue

    def waiting() -> Iterator[bytes]:
        while not any(b"sudo\0-k" in text for text in seen):
            yield b""

    for user in ("asked", "both"):
        seen.clear()
        with login(machine, user, file) as host:
            host.run("echo ready; cat", stdin=waiting(), seconds=LIMIT, on_line=look)
        assert len(seen) > 10
        assert not any(secret in text for text in seen)
    assert PASSWORD not in machine.log()


def test_a_file_that_others_may_read_holds_no_password(machine: Server, file: Path) -> None:
    file.chmod(0o644)
    with login(machine, "asked", file) as host, pytest.raises(ConfigError, match=f"{file} .*mode 0644.: chmod 600"):
        host.run("id -u", seconds=LIMIT)
    file.chmod(0o600)
    file.write_text("\n")
    with login(machine, "asked", file) as host, pytest.raises(ConfigError, match="holds no password"):
        host.run("id -u", seconds=LIMIT)
