"""The keys a user may log in with: those he named, the agent's, OpenSSH's default files, and certificates for them."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import PublicBlob, UnknownKeyType

from bootstrap.transport import known_hosts
from bootstrap.transport.keyring import Keyring, PassphraseNeeded, public_blob, public_key
from bootstrap.transport.openssh_config import Login

_KEY_TRIES = 16
_AGENT_SECONDS = 60.0  # somebody may have to confirm, or to touch a token


@dataclass(frozen=True, slots=True)
class Identity:
    """A key to try, under the name that the user knows; with a certificate, if it has a `public_blob`."""

    name: str
    key: paramiko.PKey


@contextmanager
def identities_of(login: Login, keyring: Keyring) -> Iterator[Identities]:
    """Give the keys to log in with. The agent signs as long as this lasts; one that does not answer has no keys."""
    agent: _Agent | None = None
    unusable: list[str] = []
    if login.agent:
        try:
            agent = _Agent(login.agent)
        except (paramiko.SSHException, OSError) as error:
            unusable.append(f"the agent at {login.agent} does not answer ({error})")
    if agent is None:
        yield Identities(login, keyring, (), unusable)
        return
    with closing(agent):
        yield Identities(login, keyring, agent.get_keys(), unusable)


class Identities:
    """Gives keys one after the other. Those that the user named come first, then the agent's, then the default files.

    A key that has certificates is given with each of them before it is given alone.
    """

    def __init__(self, login: Login, keyring: Keyring, agent_keys: Sequence[AgentKey], unusable: list[str]) -> None:
        self._login = login
        self._keyring = keyring
        self._agent_keys = agent_keys
        self._held = {key.asbytes(): key for key in agent_keys if not _is_certificate(key)}
        self._given: set[bytes] = set()
        self.unusable = unusable
        """What cannot be tried, and why, for messages."""
        self.locked: list[Path] = []
        """Files whose passphrases can be asked for."""
        self._certificates = self._read_certificates()

    def __iter__(self) -> Iterator[Identity]:
        """Give each key."""
        if self._login.named_identities:
            yield from self._from_files()
        if not self._login.identities_only:
            yield from self._from_agent()
        if not self._login.named_identities:
            yield from self._from_files()

    def _from_files(self) -> Iterator[Identity]:
        for file in self._login.identity_files:
            if identity := self._of_file(file):
                yield from self._each(identity)

    def _from_agent(self) -> Iterator[Identity]:
        for key in self._agent_keys:
            name = f"{key.comment or key.get_name()} (agent)"
            if len(self._given) >= _KEY_TRIES:
                return
            if not _is_certificate(key):
                yield from self._each(Identity(name, key))
            elif key.blob not in self._given:
                self._given.add(key.blob)
                yield Identity(f"{name}, a certificate", _certified(key, PublicBlob(key.get_name(), key.blob)))

    def _each(self, identity: Identity) -> Iterator[Identity]:
        plain = identity.key.asbytes()
        if plain in self._given:
            return
        self._given.add(plain)
        for file, blob in self._certificates.get(plain, {}).items():
            yield Identity(f"{identity.name} with {file}", _certified(identity.key, blob))
        yield identity

    def _of_file(self, file: Path) -> Identity | None:
        login, unusable = self._login, self.unusable
        if key := self._held.get(public_key(file)):
            return Identity(f"{file} (agent)", key)
        try:
            return Identity(str(file), self._keyring.key(file))
        except (FileNotFoundError, NotADirectoryError):
            if login.named_identities:
                unusable.append(f"{file} does not exist")
        except PassphraseNeeded as error:
            if not str(error):
                self.locked.append(file)
            agent = "the agent does not hold it" if login.agent else "no agent runs"
            why = f", and {error}" if str(error) else ""
            unusable.append(f"{file} has a passphrase and {agent}{why} (run ssh-add {file})")
        except OSError as error:
            unusable.append(f"{file} cannot be read: {error.strerror}")
        except (UnknownKeyType, UnsupportedAlgorithm):
            unusable.append(f"{file} is of a kind that only an agent can use (run ssh-add {file})")
        except (ValueError, paramiko.SSHException) as error:
            if public_blob(file):
                unusable.append(f"{file} is a public key, and no agent holds the private one")
            else:
                unusable.append(f"{file} is no private key that can be used: {error}")
        return None

    def _read_certificates(self) -> dict[bytes, dict[Path, PublicBlob]]:
        """Give the user's certificates by the public key they are for: those he named, and those beside his keys."""
        login = self._login
        found: dict[bytes, dict[Path, PublicBlob]] = {}
        beside = [Path(f"{str(file).removesuffix('.pub')}-cert.pub") for file in login.identity_files]
        for file in (*login.certificate_files, *beside):
            blob = public_blob(file)
            if key := blob and known_hosts.certified_key(blob.key_blob):
                found.setdefault(key, {})[file] = blob
            elif file in login.certificate_files or file.exists():
                self.unusable.append(f"{file} is no certificate that can be used")
        return found


class _Agent(AgentSSH):
    """An agent that listens at a place of the user's choice (OpenSSH's IdentityAgent)."""

    def __init__(self, place: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_AGENT_SECONDS)
        connection.connect(place)
        self._connect(connection)  # type: ignore[attr-defined]

    def close(self) -> None:
        """End the connection to it."""
        self._close()  # type: ignore[attr-defined]


def _is_certificate(key: AgentKey) -> bool:
    return key.get_name().endswith(known_hosts.CERTIFICATE_SUFFIX)


def _certified(key: paramiko.PKey, certificate: PublicBlob) -> paramiko.PKey:
    """Give `key` with a certificate to show, and leave `key` itself as it is."""
    if isinstance(key, AgentKey):
        copied: paramiko.PKey = AgentKey(key.agent, key.blob, key.comment)
    else:
        copied = copy.copy(key)
    copied.public_blob = certificate
    return copied
