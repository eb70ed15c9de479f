"""What holds for the system's ssh alone: keys on tokens, the user's configuration, and processes that leave nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import SSHD, Asked, Server, inventory, needs, processes_with, running

from bootstrap.errors import AlgorithmsRefused, AuthenticationRefused, ConfigError, ConnectionLost
from bootstrap.transport.keyring import Keyring
from bootstrap.transport.ssh import JumpHosts, connect
from tests.screen import ROOT, sitting_at

LIMIT = 120.0
PIN = "73915524"
MODULE = "/usr/lib/softhsm/libsofthsm2.so"


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the folder of a run is made."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"ks-test-{os.getpid()}"  # sockets want short names
    folder.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def token(server: Server, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key in a token (PKCS#11) that wants a PIN, which opens the server; the user's configuration names it."""
    needs("softhsm2-util")
    (tmp_path / "tokens").mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key],
        check=True,
        capture_output=True,
    )
    for command in (
        ["--init-token", "--free", "--label", "mine", "--pin", PIN, "--so-pin", PIN],
        ["--import", str(key), "--token", "mine", "--label", "key", "--id", "01", "--pin", PIN],
    ):
        subprocess.run(["softhsm2-util", *command], check=True, capture_output=True)
    key.unlink()
    shown = subprocess.run(["ssh-keygen", "-D", MODULE], check=True, capture_output=True, text=True).stdout
    (home / ".ssh/config").write_text(f"PKCS11Provider {MODULE}\n")
    authorized = server.folder / "authorized_keys"
    before = authorized.read_text()
    authorized.write_text(before + shown)
    yield
    authorized.write_text(before)


@pytest.mark.usefixtures("token")
def test_the_pin_of_a_token_is_asked_for_once_for_all_hosts(server: Server) -> None:
    host = server.host(identity_file=None, backend="openssh")
    asked = Asked("0000", PIN)
    keyring = Keyring(asked)
    outputs: list[bytes] = []
    with JumpHosts(keyring=keyring) as jumps:

        def work() -> None:
            with connect(inventory(host), host, jumps=jumps, keyring=keyring) as connected:
                outputs.append(connected.run("echo done", seconds=LIMIT).stdout)

        # A token locks itself after a few wrong PINs: one that is wrong is tried once, and one login fails.
        with pytest.raises(AuthenticationRefused, match="PIN incorrect"):
            work()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outputs == [b"done\n"] * 4
    assert len(asked.questions) == 2
    assert "PIN for 'mine'" in asked.questions[0]


def test_a_passphrase_that_a_proxy_command_asks_for_keeps_nobody_waiting(tmp_path: Path, home: Path) -> None:
    with running(tmp_path / "sshd") as server:
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-P", "", "-f", server.user_key], check=True)
        options = f"-F none -i {server.user_key} -p {server.port} -o UserKnownHostsFile={server.known_hosts}"
        (home / ".ssh/config").write_text(f"ProxyCommand ssh {options} -W %h:%p root@127.0.0.1\n")
        host = server.host(backend="openssh")
        asked = Asked("secret", "secret")
        with connect(inventory(host), host, keyring=Keyring(asked)) as connected:
            assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"
    # Both want it, and neither knows what the other was told.
    assert asked.questions == [f"Enter passphrase for key '{server.user_key}': "] * 2


def written(server: Server, folder: Path) -> Path:
    file = folder / "inventory.yaml"
    file.write_text(
        "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\nhosts:\n"
        "  - name: m1\n    address: 127.0.0.1\n    roles: [control-plane]\n"
        f"    ssh: {{user: root, port: {server.port}, knownHostsFile: {server.known_hosts}}}\n"
    )
    return file


@pytest.mark.usefixtures("token")
def test_the_command_line_asks_for_the_pin_at_the_terminal(server: Server, tmp_path: Path) -> None:
    file = str(written(server, tmp_path))
    command = [sys.executable, "-m", "bootstrap", "unlock", "-i", file, "--ssh-backend", "openssh"]
    with sitting_at(command) as (screen, process):
        screen.until(b"Enter PIN for 'mine': ")
        assert not screen.echoes()
        assert processes_with(MODULE) == [] == processes_with(PIN)
        os.write(screen.near, PIN.encode() + b"\n")
        _, told = process.communicate(timeout=LIMIT)
        assert (process.returncode, told) == (0, b"No machine that answers is locked.\n")
        assert screen.echoes()


@pytest.mark.usefixtures("token")
def test_without_a_terminal_it_is_said_that_a_pin_may_be_wanted(server: Server) -> None:
    host = server.host(identity_file=None, backend="openssh")
    with pytest.raises(AuthenticationRefused, match="no terminal to ask for a passphrase or a PIN at"):
        connect(inventory(host), host)


def test_the_users_configuration_counts_where_ours_says_nothing(server: Server, home: Path) -> None:
    way = home / "way"
    sshd = f"{SSHD} -i -f {server.folder}/sshd_config"
    (home / ".ssh/config").write_text(
        f"Host m1.example\n HostName 127.0.0.1\n Port {server.port}\n IdentityFile {server.user_key}\n"
        f" UserKnownHostsFile {server.known_hosts}\n ProxyCommand sh -c 'echo %r >{way}; exec {sshd}'\n"
        " ControlMaster auto\n ControlPersist 10m\n RemoteCommand false\n ForwardAgent yes\n LogLevel QUIET\n"
    )
    host = server.host(port=None, identity_file=None, known_hosts_file=None, backend="openssh")
    host = host.model_copy(update={"address": "m1.example"})
    with connect(inventory(host), host) as connected:
        assert connected.run("echo ${SSH_AUTH_SOCK:-none}", seconds=LIMIT).stdout == b"none\n"
    assert way.read_text() == "root\n"


def test_more_commands_than_sshd_has_sessions_wait_for_their_turn(tmp_path: Path) -> None:
    with running(tmp_path / "sshd", "MaxSessions 10") as server:
        host = server.host(backend="openssh")
        results: list[int] = []
        with connect(inventory(host), host) as connected:

            def work() -> None:
                results.append(connected.run("sleep 0.5", seconds=LIMIT).status)

            threads = [threading.Thread(target=work) for _ in range(25)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert results == [0] * 25


def await_true(what: Callable[[], bool]) -> None:
    for _ in range(600):
        if what():
            return
        time.sleep(0.1)
    raise AssertionError


def test_nothing_is_left_at_the_end_of_a_run(server: Server, places: Path) -> None:
    host = server.host(backend="openssh")
    with connect(inventory(host), host) as connected:
        (folder,) = places.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert processes_with(str(folder))
        assert connected.run("echo done", seconds=LIMIT).stdout == b"done\n"
    assert list(places.iterdir()) == []
    await_true(lambda: not processes_with(str(folder)))


def test_a_run_that_is_killed_takes_its_processes_with_it(server: Server, places: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom bootstrap import inventory\nfrom bootstrap.connections import connected\n"
        f"read = inventory.load(__import__('pathlib').Path({str(written(server, tmp_path))!r}))\n"
        f"read = inventory.with_ssh(read, backend='openssh', identity_file={str(server.user_key)!r})\n"
        "with connected(read, read.hosts) as connections:\n"
        "    host = connections.hosts['m1']\n"
        "    host.run('echo up; sleep 600', seconds=600, on_line=lambda line: print('up', flush=True))\n"
    )
    run = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert run.stdout
    assert run.stdout.readline() == b"up\n"
    (folder,) = places.iterdir()
    assert processes_with(str(folder))
    run.send_signal(signal.SIGKILL)
    run.wait(30)
    run.stdout.close()
    await_true(lambda: not processes_with(str(folder)))


def test_a_machine_without_ssh_is_told_what_to_install(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    host = server.host(backend="openssh")
    with pytest.raises(ConfigError, match=r"there is no program `ssh`, .*install OpenSSH's client"):
        connect(inventory(host), host)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("OpenSSH_8.4p1 Debian-5, OpenSSL 1.1.1k", "OpenSSH_8.4p1 Debian-5;"),
        ("OpenSSH_7.9p1, LibreSSL 2.7.3", "OpenSSH_7.9p1;"),
        ("Dropbear v2022.83", "Dropbear v2022.83;"),
        ("", "nothing;"),
    ],
)
def test_an_ssh_that_is_too_old_is_told_with_its_version(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/ssh"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    host = server.host(backend="openssh")
    with pytest.raises(ConfigError, match=rf"needs OpenSSH 8\.5 or newer, and {program} says of its version: {told}"):
        connect(inventory(host), host)


def test_who_logs_in_after_the_end_of_a_run_leaves_nothing(server: Server, places: Path) -> None:
    jumps = JumpHosts()
    jumps.close()
    host = server.host(backend="openssh")
    with pytest.raises(ConnectionLost, match="the run has ended"):
        connect(inventory(host), host, jumps=jumps)
    assert list(places.iterdir()) == []


def test_a_configuration_that_ssh_cannot_read_is_told_in_its_words(server: Server, home: Path) -> None:
    (home / ".ssh/config").write_text("NoSuchOption yes\n")
    host = server.host(backend="openssh")
    with pytest.raises(ConfigError, match=r"ssh cannot use its configuration; it says: .*line 1.*nosuchoption"):
        connect(inventory(host), host)


def test_weak_algorithms_stay_off_whatever_the_configuration_says(tmp_path: Path, home: Path) -> None:
    (home / ".ssh/config").write_text("MACs hmac-sha1\nCiphers +aes128-cbc\n")
    with running(tmp_path / "sshd", "Ciphers aes128-cbc") as server:
        host = server.host(backend="openssh")
        with pytest.raises(AlgorithmsRefused, match="it offers only aes128-cbc"):
            connect(inventory(host), host)
