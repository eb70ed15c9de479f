"""What a run needs from its user to log in, asked for once for all hosts: passphrases of keys, passwords for sudo."""

from __future__ import annotations

import base64
import binascii
import io
import os
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from paramiko.pkey import UnknownKeyType

from bootstrap.errors import ConfigError
from bootstrap.transport.known_hosts import Fields

Ask = Callable[[str], str]
"""Asks the user for a secret with a prompt, and gives the answer. Raises `CannotAsk`."""

_TRIES = 3


class CannotAsk(Exception):
    """Nobody answers. `str()` says why, in the middle of a sentence."""


class PassphraseNeeded(Exception):
    """A private key is encrypted, and its passphrase was not given yet. `str()` says why it never will be, if so."""


class Keyring:
    """Private keys by file, opened with passphrases. Threads may share it; one question is asked at a time.

    Without `ask` nothing is asked, and encrypted keys stay closed.
    """

    def __init__(self, ask: Ask | None = None, tell: Callable[[str], None] | None = None) -> None:
        self._ask = ask
        self._tell = tell
        self._lock = threading.Lock()
        self._opened: dict[Path, paramiko.PKey] = {}
        self._given_up: dict[Path, str] = {}
        self._passwords: dict[str, str] = {}  # by file, or by user behind an @, which no file's name begins with

    @property
    def can_ask(self) -> bool:
        """Whether there is anybody to ask."""
        return self._ask is not None

    def tell(self, what: str) -> None:
        """Show the user what he is to do, where somebody sits there: to touch a token."""
        if self._tell:
            self._tell(what)

    def answer(self, question: str) -> str:
        """Give what the user answers to another program's question. Raises `CannotAsk`."""
        with self._lock:
            if not self._ask:
                raise CannotAsk("there is no terminal to ask at")
            return self._ask(question)

    def key(self, file: Path) -> paramiko.PKey:
        """Give the private key in `file`, without a certificate.

        Raises `PassphraseNeeded`, and what `load` raises.
        """
        if file in self._opened:
            return self._opened[file]
        try:
            return load(file)
        except (TypeError, paramiko.PasswordRequiredException):  # the former is cryptography's
            why = self._given_up.get(file, "")
            raise PassphraseNeeded(why if self._ask else "there is no terminal to ask for it at") from None

    def unlock(self, file: Path) -> None:
        """Ask for the passphrase of an encrypted key, unless that was done before; `key` has the outcome."""
        with self._lock:
            if file in self._opened or file in self._given_up or not self._ask:
                return
            for _ in range(_TRIES):
                try:
                    self._opened[file] = load(file, self._ask(f"Enter passphrase for key '{file}': "))
                except CannotAsk as error:
                    self._given_up[file] = str(error)
                    return
                except (ValueError, TypeError, paramiko.SSHException):  # a wrong one
                    continue
                else:
                    return
            self._given_up[file] = f"what was given for it was wrong {_TRIES} times"

    def read_passwords(self, files: Iterable[str | None]) -> None:
        """Read the passwords that stand in these files, before anybody needs them. Raises `ConfigError`."""
        for file in files:
            if file and file not in self._passwords:
                self._passwords[file] = read_password(file)

    def sudo_password(self, user: str, file: str | None) -> str:
        """Give the password that sudo wants of `user`: the one in `file`, or else what he says when he is asked.

        Raises `CannotAsk`, and `ConfigError` as `read_password` does.
        """
        name = file or f"@{user}"
        with self._lock:
            if name not in self._passwords:
                if file:
                    self._passwords[name] = read_password(file)
                elif self._ask:
                    self._passwords[name] = self._ask(f"[sudo] password for {user}, on all hosts that ask: ")
                else:
                    raise CannotAsk("there is no terminal to ask for it at")
            return self._passwords[name]


def read_password(file: str) -> str:
    """Give the first line of a file; `-` is standard input.

    Raises `ConfigError` where it cannot be read, is empty, or may be read by others.
    """
    try:
        if file == "-":
            line = sys.stdin.buffer.readline()
        else:
            with Path(file).open("rb") as opened:
                about = os.fstat(opened.fileno())
                if stat.S_ISREG(about.st_mode) and about.st_mode & 0o077:
                    mode = stat.S_IMODE(about.st_mode)
                    raise ConfigError(
                        f"{file} holds a password, and others may read it (mode {mode:04o}): chmod 600 it"
                    )
                line = opened.readline()
    except OSError as error:
        raise ConfigError(f"the file of the password for sudo, {file}, cannot be read: {error.strerror}") from error
    password = line.rstrip(b"\r\n").decode(errors="surrogateescape")
    if not password:
        raise ConfigError(f"{'standard input' if file == '-' else file} holds no password for sudo in its first line")
    return password


def load(file: Path, passphrase: str | None = None) -> paramiko.PKey:
    """Read a private key, in OpenSSH's format or PEM.

    Raises `OSError`; `TypeError` or `PasswordRequiredException` where a passphrase is missing; `ValueError` or
    `SSHException` where it is wrong, or the file holds no key; `UnknownKeyType` or `UnsupportedAlgorithm`.
    """
    data = file.read_bytes()
    password = passphrase.encode() if passphrase else None
    loaded: object
    try:
        loaded = load_ssh_private_key(data, password)
    except ValueError:
        loaded = load_pem_private_key(data, password)
    kinds: dict[type, type[paramiko.PKey]] = {
        ed25519.Ed25519PrivateKey: paramiko.Ed25519Key,
        ec.EllipticCurvePrivateKey: paramiko.ECDSAKey,
        rsa.RSAPrivateKey: paramiko.RSAKey,
    }
    for theirs, ours in kinds.items():
        if isinstance(loaded, theirs):
            return ours.from_private_key(io.StringIO(data.decode()), passphrase or None)
    raise UnknownKeyType(key_type=type(loaded).__name__, key_bytes=b"")


def public_key(file: Path) -> bytes:
    """Give the public key (in wire format) of a private key without opening it; empty where that cannot be told.

    It lies beside the private key, or in it (OpenSSH's format); or `file` is a public key itself, as ssh allows where
    an agent holds the private one.
    """
    for candidate in (file.with_name(file.name + ".pub"), file):
        if blob := public_blob(candidate):
            return blob.key_blob
    try:
        body = file.read_bytes().partition(b"-----BEGIN OPENSSH PRIVATE KEY-----")[2].partition(b"-----END")[0]
        data = base64.b64decode(b"".join(body.split()), validate=True)
        fields = Fields(data.removeprefix(b"openssh-key-v1\0"))
        _cipher, _kdf, _options, _keys = (fields.string(), fields.string(), fields.string(), fields.number(">I"))
        return fields.string()
    except (OSError, binascii.Error, ValueError, struct.error):
        return b""


def public_blob(file: Path) -> paramiko.pkey.PublicBlob | None:
    """Read a public key or a certificate; None where there is none."""
    try:
        fields = file.read_bytes().split()
        return paramiko.pkey.PublicBlob.from_string(b" ".join(fields[:2]).decode())
    except (OSError, ValueError, paramiko.SSHException):
        return None
