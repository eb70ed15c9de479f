"""One process of the system's ssh that is logged in to a server, and lets others use the connection (a master)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from bootstrap.errors import ConfigError
from bootstrap.transport import known_hosts, mux
from bootstrap.transport.openssh_config import Login, config_files

# A socket's path has 104 bytes at most (macOS; 108 on Linux), and ssh adds 17 to it while it makes the socket.
_LONGEST_FOLDER = 80
_OLDEST = (8, 5)  # KnownHostsCommand; SSH_ASKPASS_REQUIRE came with 8.4
_END_SECONDS = 2.0
_UP = b"kubestrap is logged in\n"
_PINNED = "kubestrap-pinned"

# The process ends with the one that started it, however that ends: the pipe to its standard input breaks then.
_TIED = (
    # where no line comes, whoever held the pipe is gone
    'exec 3<&0; { read -r _ <&3 || while kill "$$"; do sleep 1; done; } >/dev/null 2>&1 & '
    'exec 3<&-; exec "$@" </dev/null'
)


def find_program() -> str:
    """Give the path of the system's ssh. Raises `ConfigError` where there is none, or none that can do what is used."""
    program = shutil.which("ssh")
    if not program:
        raise ConfigError("there is no program `ssh`, which ssh.backend openssh needs: install OpenSSH's client")
    try:
        asked = subprocess.run(
            [program, "-V"], capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
        said = asked.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    version = re.match(r"OpenSSH_([0-9]+)\.([0-9]+)", said)
    if version is None or (int(version[1]), int(version[2])) < _OLDEST:
        raise ConfigError(
            f"ssh.backend openssh needs OpenSSH {_OLDEST[0]}.{_OLDEST[1]} or newer, and {program} says of its version: "
            f"{said.partition(',')[0] or 'nothing'}; update it, or use ssh.backend paramiko"
        )
    return program


class Process:
    """`ssh` as a master at the socket `path`; beside that lie its configuration, its log, and its standard error.

    `program` is ssh itself, and `asking` what its environment needs besides.
    """

    def __init__(
        self, program: str, path: Path, alias: str, settings: Iterable[str], asking: Mapping[str, str]
    ) -> None:
        self.path = path
        self._log = path.with_suffix(".log")
        self._said = path.with_suffix(".said")
        configuration = path.with_suffix(".conf")
        configuration.write_text("".join(f"{line}\n" for line in settings))
        ssh = [program, "-F", str(configuration), "-E", str(self._log), "-N", "-T", "--", alias]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _TIED, "sh", *ssh],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **asking},
                start_new_session=True,  # a Ctrl-C, which lets a run end in order, does not cut its connections
            )

    def await_login(self, seconds: float) -> bool | None:
        """Wait until it is logged in, and say whether it is; False: it has ended. None where neither is so in time."""
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        said = b""
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            if ready:
                data = os.read(self._process.stdout.fileno(), 4096)
                said += data
                if not data or _UP in said:
                    return _UP in said
        return None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it runs, as far as is known."""
        return self._process.poll() is None

    def answers(self, seconds: float) -> bool:
        """Whether it answers on its socket."""
        return mux.is_alive(str(self.path), seconds=seconds)

    def await_end(self, seconds: float) -> None:
        """Wait for its end, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def log(self) -> str:
        """Give its log: ssh's messages, each in a line, among those that begin with `debug`."""
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace").replace("\r\n", "\n")
        return ""

    def messages(self) -> list[str]:
        """Give ssh's messages."""
        return [line for line in self.log().split("\n") if line.strip() and not line.startswith("debug")]

    def last_words(self) -> str:
        """Give the end of what it, or a ProxyCommand that it started, wrote to standard error."""
        with contextlib.suppress(FileNotFoundError):
            return self._said.read_bytes()[-500:].decode(errors="replace").strip()
        return ""

    def close(self) -> None:
        """End it, and remove its files. Idempotent."""
        assert self._process.stdin
        assert self._process.stdout
        if self._process.poll() is None:
            with contextlib.suppress(mux.Refused, OSError):  # of one that is not logged in yet
                mux.terminate(str(self.path), seconds=_END_SECONDS)
                self.await_end(_END_SECONDS)
            self._process.terminate()
            self.await_end(_END_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError, ValueError):  # the latter where it is closed already
            self._process.stdin.write(b"\n")  # what ties it to this process is to end, and to kill nothing
            self._process.stdin.close()
        self._process.stdout.close()
        for file in (self.path, self._log, self._said, self.path.with_suffix(".conf"), self.path.with_suffix(".pin")):
            file.unlink(missing_ok=True)


def settings(login: Login, path: Path, *, way: str, pin: str, can_ask: bool, lost_after: float) -> list[str]:
    """Give the lines of ssh_config for a master at `path`: what is settled already, then all else the user's.

    `way` is a ProxyCommand that takes the place of jump hosts, `pin` the key (type and base64) that the server must
    have, whatever known_hosts files say; their `@revoked` lines count all the same.
    """
    interval = max(1, int(lost_after / 3))
    lines = [
        f"HostName {_word(login.address)}",
        f"Port {login.port}",
        f"User {_word(login.user)}",
        f"ConnectTimeout {max(1, round(login.connect_seconds))}",
        f"BatchMode {'no' if can_ask else 'yes'}",
        f"ServerAliveInterval {interval}",
        "ServerAliveCountMax 3",
        # who is trusted is settled by the known_hosts files and the inventory alone
        "StrictHostKeyChecking yes",
        "CheckHostIP no",
        "NoHostAuthenticationForLocalhost no",
        "VerifyHostKeyDNS no",
        "UpdateHostKeys no",
        *_known_hosts(login, path, pin),
        # weak algorithms are off, whatever the user's configuration says
        "Ciphers -*-cbc*,arcfour*",
        "MACs -hmac-sha1*,hmac-md5*,hmac-ripemd160*,umac-64*",
        "KexAlgorithms -*-sha1",
        "HostKeyAlgorithms -ssh-rsa,ssh-rsa-cert-v01@openssh.com,ssh-dss*",
        "PubkeyAcceptedKeyTypes -ssh-rsa,ssh-rsa-cert-v01@openssh.com,ssh-dss*",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        # a connection for commands, and for nothing else that the user's configuration may say
        "ControlMaster yes",
        f"ControlPath {_word(str(path))}",
        "ControlPersist no",
        "ClearAllForwardings yes",
        "ForwardAgent no",
        "ForwardX11 no",
        "Tunnel no",
        "RemoteCommand none",
        "RequestTTY no",
        "PermitLocalCommand yes",
        f"LocalCommand echo {_UP.decode().strip()}",
        "LogLevel DEBUG1",
    ]
    lines += [f"IdentityFile {_word(str(file))}" for file in identity_files(login)] or ["IdentityFile none"]
    if way:
        lines.append(f"ProxyCommand {way.replace('%', '%%')}")
    elif not login.proxy_command:
        lines.append("ProxyJump none")
    return [*lines, *(f"Include {_quoted(str(file))}" for file in config_files())]


def identity_files(login: Login) -> tuple[Path, ...]:
    """Give the files of keys to try: those that the user named, or those of OpenSSH's default files that there are."""
    if login.named_identities:
        return login.identity_files
    defaults = (Path.home() / ".ssh" / f"id_{kind}" for kind in ("ed25519", "ed25519_sk", "ecdsa", "ecdsa_sk", "rsa"))
    return tuple(file for file in defaults if file.exists())


def _known_hosts(login: Login, path: Path, pin: str) -> list[str]:
    if not pin:
        return [
            f"UserKnownHostsFile {' '.join(_word(str(file)) for file in login.known_hosts_files) or 'none'}",
            "GlobalKnownHostsFile none",
        ]
    files = login.known_hosts_files
    known = known_hosts.known_keys(known_hosts.read(files), files, login.known_as, login.port)
    lines = [f"@revoked * {known_hosts.public_line(entry.key_type, entry.key)}" for entry in known.revoked]
    file = path.with_suffix(".pin")
    file.write_text("".join(f"{line}\n" for line in [*lines, f"{_PINNED} {pin}"]))
    return [
        f"HostKeyAlias {_PINNED}",
        f"UserKnownHostsFile {_word(str(file))}",
        "GlobalKnownHostsFile none",
        "KnownHostsCommand none",
    ]


def private_folder() -> Path:
    """Make a folder that only this user may enter, whose name is short enough for sockets, and in which programs run.

    Raises `ConfigError` where there is no place for one.
    """
    noexec = getattr(os, "ST_NOEXEC", 0)
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp", str(Path.home() / ".ssh")):  # noqa: S108
        if not place or len(place) > _LONGEST_FOLDER - 10:
            continue
        with contextlib.suppress(OSError):
            if not os.statvfs(place).f_flag & noexec:
                return Path(tempfile.mkdtemp(prefix="ks-", dir=place))
    raise ConfigError(
        "no folder can be made for the sockets of ssh (ssh.backend openssh): name one in TMPDIR that has a short name "
        "and lets programs run"
    )


def script(module: str) -> str:
    """Give a script of sh that runs a module of ours with the script's arguments."""
    path = os.pathsep.join(sys.path)
    return f'#!/bin/sh\nPYTHONPATH={shlex.quote(path)} exec {shlex.quote(sys.executable)} -m {module} "$@"\n'


def write_script(file: Path, module: str) -> None:
    """Write such a script, that its owner may run."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w") as opened:
        opened.write(script(module))


def _word(value: str) -> str:
    """Write a value in which ssh would fill in `%h` and its like, so that it stays as it is."""
    return _quoted(value.replace("%", "%%"))


def _quoted(value: str) -> str:
    return f'"{value}"'
