"""A real OpenSSH server on a loopback port, with keys and configuration of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap import spec
from bootstrap.transport.keyring import CannotAsk

SSHD = "/usr/sbin/sshd"
DEFAULTS: dict[str, object] = {"connect_timeout": "30s"}
"""What inventories of tests say about SSH where tests do not; the fixture `backend` adds to it."""

both = pytest.mark.usefixtures("backend")
"""Marks a test that is run by each of the two that speak SSH."""


def keygen(path: Path, kind: str = "ed25519", *more: str) -> Path:
    """Make a key pair, without a passphrase unless `more` says so."""
    passphrase = () if "-N" in more else ("-N", "")
    size = ("-b", "2048") if kind == "rsa" else ()
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-f", path, "-C", path.name, *passphrase, *more], check=True)
    return path


def public(path: Path) -> str:
    """Give the public half of a key, as `type base64`."""
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int
    host_key: Path
    user_key: Path
    known_hosts: Path

    def host(self, *, host_key: str | None = None, **ssh: object) -> spec.Host:
        settings = {
            "user": "root",
            "port": self.port,
            "identity_file": str(self.user_key),
            "known_hosts_file": str(self.known_hosts),
            **ssh,
        }
        return spec.Host(
            name="m1",
            address="127.0.0.1",
            host_key=host_key,
            roles=("worker",),
            ssh=spec.HostSsh.model_validate({name: value for name, value in settings.items() if value is not None}),
        )

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def await_log(self, pattern: str) -> None:
        """Wait, for a minute at most, until the log has what the regular expression matches, across lines too."""
        for _ in range(600):
            if re.search(pattern, self.log(), re.DOTALL):
                return
            time.sleep(0.1)
        raise AssertionError(self.log())


def inventory(host: spec.Host, **ssh: object) -> spec.Inventory:
    return spec.Inventory(hosts=(host,), ssh=spec.Ssh.model_validate({**DEFAULTS, **ssh}))


@contextmanager
def running(
    folder: Path,
    *settings: str,
    host_keys: Sequence[Path] = (),
    environment: dict[str, str] | None = None,
    within: Sequence[str | Path] = (),
) -> Iterator[Server]:
    """Run sshd with more `settings` (lines of sshd_config, which come before our own and so win).

    `within` is a command that runs what follows it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    host_keys = tuple(host_keys) or (keygen(folder / "host_ed25519"),)
    user_key = keygen(folder / "user_ed25519")
    authorized = folder / "authorized_keys"
    authorized.write_text(public(user_key) + "\n")
    authorized.chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    known_hosts = folder / "known_hosts"
    known_hosts.write_text("".join(f"[127.0.0.1]:{port} {public(key)}\n" for key in host_keys))
    lines = [
        *settings,
        f"Port {port}",
        *(() if any(line.startswith("ListenAddress") for line in settings) else ("ListenAddress 127.0.0.1",)),
        *(f"HostKey {key}" for key in host_keys),
        f"AuthorizedKeysFile {authorized}",
        f"PidFile {folder}/pid",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "StrictModes no",
        "UsePAM no",
        "PrintMotd no",
        "LogLevel VERBOSE",
        "SetEnv SHLVL=1",  # keeps bash from reading root's .bashrc, which may be slow
    ]
    config = folder / "sshd_config"
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [*within, SSHD, "-D", "-f", config, "-E", folder / "log"],
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    try:
        _await(port, process, folder)
        yield Server(folder, port, host_keys[0], user_key, known_hosts)
    finally:
        process.terminate()
        process.wait(30)


def _await(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"sshd does not run: {(folder / 'log').read_text()}")


def needs(*programs: str) -> None:
    """Fail, rather than skip, where OpenSSH is not installed."""
    missing = [program for program in programs if not shutil.which(program)]
    assert not missing, f"install {', '.join(missing)} (apt-get install openssh-server openssh-client)"


def processes_with(text: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in line:
            found.append(line.decode())
    return found


class Asked:
    """Somebody who answers questions, and remembers them."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.questions: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.questions.append(prompt)
        if not self._answers:
            raise CannotAsk("nobody is there")
        return self._answers.pop(0)
