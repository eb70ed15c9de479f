"""An etcd that others run: the operator's files for it, and whether control planes can use it.

Each endpoint is asked from each control plane, over that machine's own SSH connection, by the certificates that its API
server is going to have. Checks have kubeadm's names where kubeadm has them (preflight/checks.go).
"""

from __future__ import annotations

import datetime
import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bootstrap import paths, pki
from bootstrap.errors import ConfigError, HostError, Problem
from bootstrap.parallel import attempt
from bootstrap.spec import ExternalEtcd
from bootstrap.transport.base import Host

OLDEST = (3, 5, 24)
"""The oldest etcd that Kubernetes 1.37 is tried with (kubeadm's `MinExternalEtcdVersion`)."""
SECONDS = 10.0
"""The limit of each step of asking one endpoint: longer than etcd itself waits for its members."""

_CA = f"{paths.PKI}/etcd/ca.crt"
_CERTIFICATE = f"{paths.PKI}/apiserver-etcd-client.crt"
_KEY = f"{paths.PKI}/apiserver-etcd-client.key"
_UNTRUSTED = frozenset({2, 18, 19, 20, 21})  # X509_V_ERR_*: no issuer, or not one of ours
_OTHER_NAME = frozenset({62, 64})
_EXPIRED = 10
_NOT_YET = 9


def read(given: ExternalEtcd) -> Mapping[str, bytes]:
    """Read the operator's files, and give them by the places that kubeadm has for them on a control plane.

    Raises `ConfigError` with everything that is wrong with them: a file that cannot be read or is not what it should
    be, a key that others can read or that is another certificate's, a certificate that has expired.
    """
    problems: list[str] = []
    named = {
        _CA: ("caFile", given.ca_file),
        _CERTIFICATE: ("certFile", given.cert_file),
        _KEY: ("keyFile", given.key_file),
    }
    files = {place: data for place, (name, file) in named.items() if (data := _content(name, Path(file), problems))}
    problems += _faults(
        files, {place: f"cluster.etcd.external.{name}: {file}" for place, (name, file) in named.items()}
    )
    if problems:
        raise ConfigError("\n".join(problems))
    return files


def check(given: ExternalEtcd, hosts: Mapping[str, Host]) -> list[Problem]:
    """Ask every endpoint from each of `hosts`, all at once; give each fault once, with all that it was seen of.

    Raises `ConfigError` as `read` does.
    """
    context = _context(read(given), given)
    pairs = {f"{name} {url}": (hosts[name], url) for name in hosts for url in given.endpoints}

    def ask(pair: str) -> list[_Fault]:
        return list(_ask(*pairs[pair], context))

    found, failed = attempt(list(pairs), ask)
    seen: dict[_Fault, list[tuple[str, str]]] = {}
    for pair, faults in found.items():
        for fault in faults:
            seen.setdefault(fault, []).append((pairs[pair][0].name, pairs[pair][1]))
    problems = [_problem(fault, places) for fault, places in seen.items()]
    for pair, error in failed.items():
        host, url = pairs[pair]
        what = f"whether it reaches etcd at {url}: {error.what if isinstance(error, HostError) else error}"
        problems.append(Problem(host.name, _reach(url), "unchecked", what, _FORWARDING))
    return problems


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with an endpoint. What differs between machines and endpoints is not a part of it."""

    check: str
    cause: str
    fix: str


_FORWARDING = "let the tool's own SSH connections pass on others (AllowTcpForwarding of that machine's sshd)"
_CLIENT = "ExternalEtcdClientCertificates"
_SERVER = "ExternalEtcdServerCertificates"
_VERSION = "ExternalEtcdVersion"
_HEALTH = "ExternalEtcdHealth"


def _content(name: str, file: Path, problems: list[str]) -> bytes:
    where = f"cluster.etcd.external.{name}: {file}"
    try:
        if name == "keyFile" and file.stat().st_mode & 0o077:
            problems.append(f"{where} can be read or changed by others: it is a secret; chmod 600 it")
        data = file.read_bytes()
    except OSError as error:
        problems.append(f"{where} cannot be read: {error.strerror or error}; correct the name, or put the file there")
        return b""
    if not data:
        problems.append(f"{where} is empty; put the right file there")
    return data


def _faults(files: Mapping[str, bytes], where: Mapping[str, str]) -> Iterator[str]:
    now = datetime.datetime.now(datetime.UTC)
    certificates = {place: pki.read_certificate(files[place]) for place in (_CA, _CERTIFICATE) if place in files}
    for place, certificate in certificates.items():
        if certificate is None:
            yield f"{where[place]} is not a certificate in PEM; put the right file there"
        elif certificate.not_valid_after_utc <= now:
            yield f"{where[place]} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; have a new one issued"
        elif certificate.not_valid_before_utc > now:
            yield f"{where[place]} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} on; check the clock"
    if _KEY not in files:
        return
    key = pki.read_key(files[_KEY])
    own = certificates.get(_CERTIFICATE)
    if key is None:
        yield f"{where[_KEY]} is not a private key in PEM without a passphrase; put the right file there"
    elif own is not None and not pki.matches(key, own):
        yield f"{where[_KEY]} is not the key of certFile; give the two files that belong together"


def _context(files: Mapping[str, bytes], given: ExternalEtcd) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=files[_CA].decode("ascii", errors="replace"))
    context.load_cert_chain(given.cert_file, given.key_file)
    return context


def _ask(host: Host, url: str, context: ssl.SSLContext) -> Iterator[_Fault]:
    parts = urlsplit(url)
    name, port = parts.hostname or "", parts.port or 2379
    try:
        plain = host.dial(name, port, seconds=SECONDS)
    except OSError as error:
        why = "it is refused: nothing listens there" if isinstance(error, ConnectionRefusedError) else _said(error)
        fix = "correct cluster.etcd.external.endpoints, start etcd there, or let it through every firewall between"
        yield _Fault(_reach(url), f"is not reached: {why}", fix)
        return
    with plain:
        plain.settimeout(SECONDS)
        try:
            tls = context.wrap_socket(plain, server_hostname=name)
        except ssl.SSLCertVerificationError as error:
            yield _distrust(error, name)
            return
        except (OSError, ssl.SSLError) as error:
            yield _refusal(error)
            return
        with tls:
            try:
                yield from _judge(tls, name, port)
            except (OSError, http.client.HTTPException, ValueError) as error:
                yield _refusal(_heard(host, name, port, context) or error if _hung_up(error) else error)


def _hung_up(error: Exception) -> bool:
    return isinstance(error, ConnectionError | ssl.SSLEOFError)


def _heard(host: Host, name: str, port: int, context: ssl.SSLContext) -> ssl.SSLError | None:
    """Give what the server has against the client, by saying nothing to it: in TLS 1.3 that comes after the handshake.

    A server that hangs up while something is sent to it loses its own last words.
    """
    try:
        with host.dial(name, port, seconds=SECONDS) as plain:
            plain.settimeout(SECONDS)
            with context.wrap_socket(plain, server_hostname=name) as tls:
                tls.recv(1)
    except ssl.SSLError as error:
        return error
    except OSError:
        return None
    return None


def _judge(tls: ssl.SSLSocket, name: str, port: int) -> Iterator[_Fault]:
    """Ask for version and health. Raises `OSError` and others where nothing fit to be read comes."""
    connection = http.client.HTTPConnection(name, port)
    connection.sock = tls
    version = _get(connection, "/version").get("etcdserver", "")
    if too_old(version):
        oldest = ".".join(map(str, OLDEST))
        fix = f"upgrade it to {oldest} or newer"
        yield _Fault(_VERSION, f"has version {version or 'unknown'}, and Kubernetes needs {oldest}", fix)
    health = _get(connection, "/health")
    if str(health.get("health")).lower() != "true":
        why = str(health.get("reason") or "it says so")
        yield _Fault(
            _HEALTH, f"is not well: {_HEALTHS.get(why, why)}", "see to it (etcdctl endpoint status, member list)"
        )


_HEALTHS = {
    "RAFT NO LEADER": "it has no leader: more than half of its members must run and reach each other",
    "QGET ERROR": "no majority confirms what it answers: more than half of its members must run and reach each other",
    "ALARM NOSPACE": "its database is full (alarm NOSPACE), and it takes no writes",
    "ALARM CORRUPT": "a member's data are damaged (alarm CORRUPT)",
}


def too_old(version: str) -> bool:
    """Say whether Kubernetes is not to be run with etcd of `version` (`3.5.24`, `3.6.0-rc.1`)."""
    found = re.match(r"([0-9]+)\.([0-9]+)\.([0-9]+)", version)
    return found is None or tuple(map(int, found.groups())) < OLDEST


def _get(connection: http.client.HTTPConnection, path: str) -> dict[str, Any]:
    connection.request("GET", path)
    answer = json.loads(connection.getresponse().read() or b"{}")
    return answer if isinstance(answer, dict) else {}


def _distrust(error: ssl.SSLCertVerificationError, name: str) -> _Fault:
    code = error.verify_code
    if code in _UNTRUSTED:
        cause, fix = "its certificate is not signed by caFile", "give the CA that signed etcd's certificates as caFile"
    elif code in (_EXPIRED, _NOT_YET):
        when = "has expired" if code == _EXPIRED else "is not valid yet"
        cause, fix = f"its certificate, or its CA's, {when}", "renew it there, and check the clocks"
    elif code in _OTHER_NAME:
        cause, fix = (
            f"its certificate is not for {name}",
            "name the endpoint as the certificate does, or have one issued",
        )
    else:
        cause, fix = f"its certificate is not to be trusted: {error.verify_message}", "renew it there"
    return _Fault(_SERVER, cause, fix)


def _refusal(error: Exception) -> _Fault:
    reason = getattr(error, "reason", "") or ""
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
        fix = "give the https client URLs of etcd (its listen-client-urls)"
        return _Fault(_SERVER, "does not speak TLS", fix)
    if "ALERT" in reason or _hung_up(error):
        told = reason.rpartition("ALERT_")[2].replace("_", " ").lower() or "it hangs up"
        fix = "give a certificate that is for client authentication, of the CA that etcd trusts (its trusted-ca-file)"
        return _Fault(_CLIENT, f"refuses the client certificate: {told}", fix)
    if isinstance(error, TimeoutError):
        return _Fault(_HEALTH, f"gives no answer within {SECONDS:g} s", "see to it (etcdctl endpoint status)")
    return _Fault(
        _HEALTH, f"answers nothing that etcd would: {_said(error)}", "correct cluster.etcd.external.endpoints"
    )


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    return str(error).rpartition(": ")[2] or type(error).__name__


def _reach(url: str) -> str:
    return f"Reach-{urlsplit(url).port or 2379}"


def _problem(fault: _Fault, places: Sequence[tuple[str, str]]) -> Problem:
    names = list(dict.fromkeys(name for name, _ in places))
    urls = ", ".join(dict.fromkeys(url for _, url in places))
    others = f" (from {', '.join(names[1:])} too)" if len(names) > 1 else ""
    return Problem(names[0], fault.check, "error", f"etcd at {urls} {fault.cause}{others}", fault.fix)
