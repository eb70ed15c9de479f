"""OpenSSH's known_hosts files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), read line by line.

Plain, comma-separated, hashed (`|1|`), wildcard and negated names, `[host]:port`, `@cert-authority` and `@revoked`
work.
A line that cannot be read is passed over, as OpenSSH does, and spoils no other.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
import shlex
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bootstrap.errors import ConfigError

CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Host key algorithms that we can verify, best first."""

_AUTHORITY = "@cert-authority"
_REVOKED = "@revoked"
PIN = "hostKey in the inventory"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `hosts` is its first field as written, `key` the key in SSH's wire format."""

    file: str
    line: int
    marker: str
    hosts: str
    key_type: str
    key: bytes

    @property
    def where(self) -> str:
        """The place of the line, as `file:line`."""
        return f"{self.file}:{self.line}"

    def matches(self, name: str) -> bool:
        """Whether the line is about `name`, which is in lower case, with a port as `[name]:port`."""
        if self.hosts.startswith("|"):
            return _hash_matches(self.hosts, name)
        return pattern_list_matches(self.hosts.lower(), name)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A host certificate (OpenSSH PROTOCOL.certkeys): the parts that decide whether to trust it."""

    authority: bytes  # the signing key, in wire format
    principals: tuple[str, ...]
    problem: str  # why it can never be good, whoever signed it; else empty
    valid_after: int
    valid_before: int


State = Literal["known", "unknown", "changed", "refused"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be thought of a host key. `text` says why it is not to be trusted; empty where it is.

    `where` is the place that knows it. Only an `unknown` key may be taken in; `refused` are revoked keys, and
    certificates that are no good.
    """

    state: State
    text: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What a user's files say about one server, known there as `name`.

    A `pin` of the inventory (a public key, or its fingerprint) takes the place of the files' keys; `revoked` stay so.
    """

    host: str
    port: int
    files: tuple[Path, ...]
    keys: tuple[Entry, ...]
    authorities: tuple[Entry, ...]
    revoked: tuple[Entry, ...]
    pin: str = ""

    @property
    def is_stranger(self) -> bool:
        """Whether nothing is known of the server, so that a key of it may be taken in when the user wants that."""
        return not (self.keys or self.authorities or self.pin)

    @property
    def name(self) -> str:
        """The server's name as known_hosts files write it."""
        return name_with_port(self.host, self.port)

    def algorithms(self) -> tuple[str, ...]:
        """Give the host key algorithms to ask for, best first: those whose keys we can judge before all others.

        A server known by one kind of key is so asked for that kind, and not refused for showing another.
        """
        kinds = [self.pin.split()[0]] if self.pin else [entry.key_type for entry in self.keys]
        known = {name for kind in kinds for name in _algorithms_of(kind)}
        first = tuple(name for name in ALGORITHMS if name in known)
        rest = tuple(name for name in ALGORITHMS if name not in known)
        certified = tuple(name + CERTIFICATE_SUFFIX for name in ALGORITHMS) if self.authorities and not self.pin else ()
        return certified + first + rest

    def judge(self, key_type: str, key: bytes, certificate: bytes | None, *, now: float) -> Judgement:
        """Judge a server that shows `key`, and perhaps a certificate for it."""
        shown = f"{key_type} {fingerprint(key)}"
        parsed = _certificate(certificate) if certificate else None
        for entry in self.revoked:
            if entry.key == key:
                told = f"its host key {shown} is revoked ({entry.where}); do not use it until its key is replaced"
                return Judgement("refused", told, entry.where)
            if parsed and entry.key == parsed.authority:
                told = (
                    f"its host certificate is signed by a revoked authority ({entry.where}); have it signed by another"
                )
                return Judgement("refused", told, entry.where)
        if self.pin:
            return self._against_pin(shown, key)
        if parsed and (authority := next((each for each in self.authorities if each.key == parsed.authority), None)):
            if problem := self._certificate_problem(parsed, now):
                told = f"its host certificate, signed by the authority at {authority.where}, is no good: {problem}"
                return Judgement("refused", told, authority.where)
            return Judgement("known", where=authority.where)
        if known := next((entry for entry in self.keys if entry.key == key), None):
            return Judgement("known", where=known.where)
        if changed := [entry for entry in self.keys if entry.key_type == key_type]:
            return Judgement("changed", self._changed(shown, changed), changed[0].where)
        return Judgement("unknown", self._unknown(key_type, shown))

    def _against_pin(self, shown: str, key: bytes) -> Judgement:
        pinned = self.pin if self.pin.startswith("SHA256:") else fingerprint(base64.b64decode(self.pin.split()[1]))
        if hmac.compare_digest(pinned, fingerprint(key)):
            return Judgement("known", where=PIN)
        told = (
            f"its host key is not the one in the inventory: it shows {shown}, but hostKey is {pinned}. Either the "
            "machine was set up anew, or somebody stands in between. Only if you know why, change hostKey"
        )
        return Judgement("changed", told, PIN)

    def _certificate_problem(self, certificate: Certificate, now: float) -> str:
        if certificate.problem:
            return certificate.problem
        if now < certificate.valid_after:
            return f"it is not valid before {_date(certificate.valid_after)}; look at the clocks of both machines"
        if now >= certificate.valid_before:
            return f"it ended on {_date(certificate.valid_before)}; have it signed again"
        if certificate.principals and not any(
            pattern_matches(principal.lower(), self.host) for principal in certificate.principals
        ):
            return f"it is for {', '.join(certificate.principals)}, not for {self.host}"
        return ""

    def _changed(self, shown: str, known: Sequence[Entry]) -> str:
        places = ", ".join(f"{entry.where} has {entry.key_type} {fingerprint(entry.key)}" for entry in known)
        remove = "; ".join(
            f"ssh-keygen -f {shlex.quote(file)} -R {shlex.quote(self.name)}"
            for file in dict.fromkeys(entry.file for entry in known)
        )
        return (
            f"its host key has changed: it shows {shown}, but {places}. Either the machine was set up anew, or "
            f"somebody stands in between. Only if you know why, remove the old key ({remove}) and add the new one"
        )

    def _unknown(self, key_type: str, shown: str) -> str:
        others = ", ".join(f"{entry.key_type} at {entry.where}" for entry in self.keys)
        looked = ", ".join(str(file) for file in self.files)
        kind = key_type.removeprefix("ssh-").removeprefix("ecdsa-sha2-")
        file = shlex.quote(str(self.files[0])) if self.files else "~/.ssh/known_hosts"
        port = f"-p {self.port} " if self.port != 22 else ""
        return (
            f"its host key {shown} is unknown: "
            + (f"only other keys of {self.name} are known ({others})" if others else f"{self.name} is not in {looked}")
            + f". Compare the fingerprint with the machine's own (`ssh-keygen -lf /etc/ssh/ssh_host_"
            f"{'ecdsa' if kind.startswith('nistp') else kind}_key.pub` on its console), then add the key: "
            f"ssh-keyscan {port}-t {'ecdsa' if kind.startswith('nistp') else kind} {self.host} >> {file} "
            "(for all hosts at once: `kubestrap hosts scan`)"
        )


def read(files: Iterable[Path]) -> tuple[Entry, ...]:
    """Read the files' entries, in order. A file that does not exist has none.

    Raises `ConfigError` where a file is there and cannot be read.
    """
    entries: list[Entry] = []
    for file in files:
        try:
            text = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}; it says which host keys to trust") from error
        entries.extend(parse(text.decode("utf-8", "replace"), str(file)))
    return tuple(entries)


@contextmanager
def open_to_add(file: Path) -> Iterator[Callable[[str, str, bytes, bool], None]]:
    """Keep everybody else (of this program) from adding to a file, and give what adds a line to it.

    It takes the server's name as such files write it, the type and the key, and whether the name is to be hashed. The
    file is made if need be, open to its owner alone. Raises `OSError`.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)

        def add(name: str, key_type: str, key: bytes, hashed: bool) -> None:
            size = os.fstat(opened).st_size
            broken = size > 0 and os.pread(opened, 1, size - 1) != b"\n"
            line = f"{_hashed(name) if hashed else name} {key_type} {base64.b64encode(key).decode()}\n"
            os.write(opened, (f"\n{line}" if broken else line).encode())

        yield add
    finally:
        os.close(opened)


def parse(text: str, file: str) -> Iterator[Entry]:
    """Read known_hosts text; `file` is what its entries name as their place."""
    for number, line in enumerate(text.split("\n"), start=1):
        fields = re.split(r"[ \t]+", line.strip(" \t\r"), maxsplit=4)
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in {"", _AUTHORITY, _REVOKED}:
            continue
        hosts, kind, encoded = fields[:3]
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        if key_type(key) == kind:
            yield Entry(file, number, marker, hosts, kind, key)


def known_keys(entries: Sequence[Entry], files: Sequence[Path], host: str, port: int, pin: str = "") -> KnownKeys:
    """Pick what is said about `host` at `port`; about the name alone where nothing is said about the port."""
    host = host.lower()
    name = name_with_port(host, port)
    exact = [entry for entry in entries if entry.matches(name)]
    bare = [entry for entry in entries if entry.matches(host)] if name != host else []
    usable = [entry for entry in exact if entry.marker != _REVOKED] or bare
    return KnownKeys(
        host=host,
        port=port,
        files=tuple(files),
        keys=tuple(entry for entry in usable if not entry.marker),
        authorities=tuple(entry for entry in usable if entry.marker == _AUTHORITY),
        revoked=tuple(entry for entry in (*exact, *bare) if entry.marker == _REVOKED),
        pin=pin,
    )


def name_with_port(host: str, port: int) -> str:
    """Give the name under which known_hosts files hold a server: `host`, or `[host]:port` for a port other than 22."""
    return host if port == 22 else f"[{host}]:{port}"


def pattern_list_matches(patterns: str, name: str) -> bool:
    """Whether a comma-separated list of patterns matches `name`; a negated pattern that matches forbids it."""
    matched = False
    for pattern in patterns.split(","):
        if pattern.startswith("!"):
            if pattern_matches(pattern[1:], name):
                return False
        elif pattern_matches(pattern, name):
            matched = True
    return matched


def pattern_matches(pattern: str, name: str) -> bool:
    """Whether one pattern matches `name`: `*` stands for any characters, `?` for one, and nothing else is special."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == name  # most are so, and a file may have thousands
    expression = "".join({"*": ".*", "?": "."}.get(part) or re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.fullmatch(expression, name, re.DOTALL) is not None


def fingerprint(key: bytes) -> str:
    """Give the fingerprint that `ssh-keygen -l` shows for a key in wire format: `SHA256:...`."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def certified_key(certificate: bytes) -> bytes:
    """Give the key, in wire format, that a certificate in wire format is for; empty where it is no certificate."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        SSHCertificate,
        load_ssh_public_identity,
    )

    try:
        read = load_ssh_public_identity(key_type(certificate).encode() + b" " + base64.b64encode(certificate))
    except (UnsupportedAlgorithm, ValueError):
        return b""
    if not isinstance(read, SSHCertificate):
        return b""
    return base64.b64decode(read.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])


def _hashed(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _hash_matches(field: str, name: str) -> bool:
    parts = field.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def _algorithms_of(key_type: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


def public_line(kind: str, key: bytes) -> str:
    """Give a key as files have it: its type, and the key in base64."""
    return f"{kind} {base64.b64encode(key).decode()}"


def key_type(key: bytes) -> str:
    """Give the type that a key in wire format says it is of; empty where it says none."""
    fields = Fields(key)
    try:
        return fields.string().decode("ascii")
    except (struct.error, UnicodeDecodeError):
        return ""


class Fields:
    """The fields of a key in wire format (RFC 4251 section 5), one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def string(self) -> bytes:
        """Take a string. Raises `struct.error` where the data ends before."""
        size = self.number(">I")
        if self._at + size > len(self._data):
            raise struct.error("a string runs past the end")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, kind: str) -> int:
        """Take a number of the form `kind`, as `struct` names it. Raises `struct.error`."""
        (value,) = struct.unpack_from(kind, self._data, self._at)
        self._at += struct.calcsize(kind)
        return int(value)

    def __bool__(self) -> bool:
        return self._at < len(self._data)


_PUBLIC_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2, "rsa-sha2-256": 2, "rsa-sha2-512": 2}


def _certificate(blob: bytes) -> Certificate | None:
    try:
        return _read_certificate(blob)
    except struct.error:
        return None


def _read_certificate(blob: bytes) -> Certificate:
    fields = Fields(blob)
    kind = fields.string().decode("ascii", "replace").removesuffix(CERTIFICATE_SUFFIX)
    fields.string()  # the nonce
    for _ in range(_PUBLIC_FIELDS.get(kind, 2)):
        fields.string()
    fields.number(">Q")  # the serial number
    role = fields.number(">I")
    fields.string()  # the key's id
    principals = Fields(fields.string())
    names = []
    while principals:
        names.append(principals.string().decode("utf-8", "replace"))
    after, before = fields.number(">Q"), fields.number(">Q")
    critical, _, _, authority, signature = (fields.string() for _ in range(5))
    problem = ""
    if role != 2:
        problem = "it is for a user, not for a host"
    elif critical:
        problem = "it has critical options, which no host certificate may have"
    elif Fields(signature).string() == b"ssh-rsa":
        problem = "it is signed with SHA-1; have it signed again with -t rsa-sha2-512"
    elif not _signature_holds(blob):
        problem = "its signature is wrong"
    return Certificate(authority, tuple(names), problem, after, before)


def _signature_holds(blob: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

    line = key_type(blob).encode() + b" " + base64.b64encode(blob)
    try:
        certificate = load_ssh_public_identity(line)
        if not isinstance(certificate, SSHCertificate):
            return False
        certificate.verify_cert_signature()
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(seconds, 253402300799)))
