"""A small client of the Kubernetes API, over a connection that a machine opens for us.

HTTP/1.1 and TLS come from the standard library; the TCP connection is the host's (`transport.base.Host.dial`), so the
operator needs no route to the API server. The server's certificate is checked against the name it is known by, which
need not be the address that is dialled.
"""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote, urlencode

from bootstrap import kubeconfig
from bootstrap.errors import ApiError, ApiUnreachable, ApiUntrusted
from bootstrap.steps import Json
from bootstrap.transport.base import Host

FIELD_MANAGER = "kubestrap"
"""Whom the API server notes as the owner of the fields that we apply."""

KINDS: Mapping[str, tuple[str, bool]] = {
    "CertificateSigningRequest": ("certificatesigningrequests", False),
    "ClusterRole": ("clusterroles", False),
    "ClusterRoleBinding": ("clusterrolebindings", False),
    "ConfigMap": ("configmaps", True),
    "DaemonSet": ("daemonsets", True),
    "Deployment": ("deployments", True),
    "EndpointSlice": ("endpointslices", True),
    "Event": ("events", True),
    "Lease": ("leases", True),
    "Namespace": ("namespaces", False),
    "Node": ("nodes", False),
    "Pod": ("pods", True),
    "PodDisruptionBudget": ("poddisruptionbudgets", True),
    "PriorityClass": ("priorityclasses", False),
    "ReplicaSet": ("replicasets", True),
    "Role": ("roles", True),
    "RoleBinding": ("rolebindings", True),
    "Secret": ("secrets", True),
    "Service": ("services", True),
    "ServiceAccount": ("serviceaccounts", True),
    "ValidatingAdmissionPolicy": ("validatingadmissionpolicies", False),
    "ValidatingAdmissionPolicyBinding": ("validatingadmissionpolicybindings", False),
}
"""The kinds that can be asked for: what the API calls their list, and whether they are in a namespace."""

_PASSING = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_ATTEMPT_SECONDS = 30.0
_BUFFER = 64 * 1024
_IDLE_SECONDS = 30.0  # the API server closes idle connections after 90 s
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)


class Api:
    """An API server, asked over one connection that is kept open, from any thread.

    Every call ends within its limit (`seconds`, kubeadm's `timeouts.kubernetesAPICall` by default). Until then it is
    tried again, with pauses, while nothing listens, the connection breaks or the server says that it cannot just now
    (429, 500, 503, 504), as it does when it starts. A request that creates is not sent twice once it may have arrived.

    Calls raise `ApiError` for what the server refuses, `ApiUnreachable` when time is over without an answer,
    `ApiUntrusted` for another server than the expected one, and `HostError` where the machine itself is lost.
    """

    def __init__(
        self, host: Host, address: str, port: int, *, server_name: str, tls: ssl.SSLContext, token: str, seconds: float
    ) -> None:
        self.host = host
        self.seconds = seconds
        self._where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self._connection = _Connection(host, address, port, server_name=server_name, tls=tls)
        self._headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._lock = threading.Lock()

    @classmethod
    def connect(
        cls,
        host: Host,
        address: str,
        port: int,
        *,
        server_name: str,
        ca: bytes | None,
        certificate: bytes = b"",
        key: bytes = b"",
        token: str = "",
        seconds: float = 60,
    ) -> Self:
        """Make a client of `https://server_name`, dialled as `address:port` from `host` at the first call.

        `ca` is PEM; None trusts any server, which is for asking in public what is checked afterwards, and is
        refused (`ValueError`) along with credentials. Those are `certificate` and `key` (PEM), or a bearer `token`.
        """
        if ca is None and (key or token):
            raise ValueError("credentials are not for a server that was not verified")
        try:
            tls = _context(ca, certificate, key)
        except ssl.SSLError as error:
            what = f"the certificates for the API server at {address}:{port} cannot be used: {error.reason}"
            raise ApiUntrusted(host.name, what) from error
        return cls(host, address, port, server_name=server_name, tls=tls, token=token, seconds=seconds)

    @classmethod
    def from_kubeconfig(
        cls, host: Host, config: bytes, *, address: str = "", port: int = 0, seconds: float = 60
    ) -> Self:
        """Make a client of the server in a kubeconfig, with its credentials, dialled as `address:port` where given.

        Raises `ConfigError` for what is no kubeconfig.
        """
        read = kubeconfig.parse(config, "the kubeconfig")
        return cls.connect(
            host,
            address or read.name,
            port or read.port,
            server_name=read.name,
            ca=read.ca,
            certificate=read.certificate,
            key=read.key,
            token=read.token,
            seconds=seconds,
        )

    def get(self, path: str, *, seconds: float | None = None) -> dict[str, Any]:
        """Give what is at `path` (with its query). Raises `ApiError`, also where there is nothing."""
        return self._call("GET", path, seconds=seconds)

    def get_object(
        self, api_version: str, kind: str, name: str, namespace: str = "", *, seconds: float | None = None
    ) -> dict[str, Any] | None:
        """Give an object, None where there is none."""
        try:
            return self.get(object_path(api_version, kind, name, namespace), seconds=seconds)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def list(
        self, api_version: str, kind: str, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """Give the objects of a kind, of all namespaces or one, narrowed by selectors (`k8s-app=kube-dns`)."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = urlencode({name: value for name, value in selectors.items() if value})
        found = self.get(f"{_collection(api_version, kind, namespace)}?{query}".rstrip("?"))
        return cast("list[dict[str, Any]]", found.get("items") or [])

    def create(self, manifest: Json) -> dict[str, Any]:
        """Make an object. Raises `ApiError` with status 409 where one of its name is there."""
        path = _collection(manifest["apiVersion"], manifest["kind"], manifest["metadata"].get("namespace", ""))
        return self._call("POST", f"{path}?fieldManager={FIELD_MANAGER}", manifest)

    def delete(self, api_version: str, kind: str, name: str, namespace: str = "") -> bool:
        """Delete an object, and what it owns after it; False where there was none."""
        try:
            self._call("DELETE", object_path(api_version, kind, name, namespace))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def evict(self, name: str, namespace: str, uid: str, *, seconds: float | None = None) -> None:
        """Ask that a Pod leaves its Node, where its PodDisruptionBudgets allow that (else `ApiError`, status 429).

        It is that very Pod or none: one that took its name meanwhile is not meant (`ApiError`, status 409).
        """
        manifest = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        self._call("POST", f"{object_path('v1', 'Pod', name, namespace)}/eviction", manifest, seconds=seconds)

    def apply(self, manifest: Json, *, resource_version: str = "") -> dict[str, Any]:
        """Make the fields of an object what `manifest` says (server-side apply), whoever owned them.

        What we applied before and `manifest` no longer names is taken away. With `resource_version` it is
        done to that version or not at all (`ApiError`, status 409).
        """
        return self._apply(manifest, resource_version, {})

    def preview(self, manifest: Json, *, resource_version: str = "") -> dict[str, Any]:
        """Give what `apply` would make of an object, as the server itself works it out; nothing is changed."""
        return self._apply(manifest, resource_version, {"dryRun": "All"})

    def _apply(self, manifest: Json, resource_version: str, options: Mapping[str, str]) -> dict[str, Any]:
        metadata = manifest["metadata"]
        path = object_path(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace", ""))
        query = {"fieldManager": FIELD_MANAGER, "force": "true", **options}
        if resource_version:
            manifest = {**manifest, "metadata": {**metadata, "resourceVersion": resource_version}}
        return self._call("PATCH", f"{path}?{urlencode(query)}", manifest, "application/apply-patch+yaml")

    def merge_patch(
        self, api_version: str, kind: str, name: str, patch: Json, namespace: str = "", *, resource_version: str = ""
    ) -> dict[str, Any]:
        """Change an object by a JSON merge patch (RFC 7386), that version of it where one is given (else 409)."""
        if resource_version:
            patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": resource_version}}
        path = f"{object_path(api_version, kind, name, namespace)}?fieldManager={FIELD_MANAGER}"
        return self._call("PATCH", path, patch, "application/merge-patch+json")

    def close(self) -> None:
        """End the connection. Idempotent."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content_type: str = "application/json",
        *,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        limit = self.seconds if seconds is None else seconds
        deadline = time.monotonic() + limit
        headers = {**self._headers, "Content-Type": content_type} if body is not None else self._headers
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        for pause in _pauses():
            try:
                status, wait, answer = self._exchange(method, path, data, headers, deadline)
            except ssl.SSLCertVerificationError as error:
                raise ApiUntrusted(self.host.name, self._said(error.verify_message)) from error
            except (OSError, http.client.HTTPException) as error:
                sent = self._connection.sent
                if (method == "POST" and sent) or time.monotonic() + pause >= deadline:
                    why = f"gave no answer within {limit:g} s: {_reason(error)}" if not sent else _reason(error)
                    raise ApiUnreachable(self.host.name, self._said(why)) from error
                time.sleep(pause)
                continue
            if status < HTTPStatus.BAD_REQUEST:
                return _json(answer)
            pause = max(pause, wait)
            if not _passes(status, answer) or time.monotonic() + pause >= deadline:
                raise self._refusal(method, path, status, answer)
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[int, float, bytes]:
        with self._lock:
            self._connection.begin(min(deadline, time.monotonic() + _ATTEMPT_SECONDS))
            try:
                self._connection.request(method, path, body=data, headers=dict(headers))
                response = self._connection.getresponse()
                answer = response.read()
            except BaseException:
                self._connection.close()
                raise
            retry_after = response.headers.get("Retry-After", "")
            return response.status, min(float(retry_after), 5.0) if retry_after.isdigit() else 0.0, answer

    def _refusal(self, method: str, path: str, status: int, answer: bytes) -> ApiError:
        told = _json(answer)
        message = told.get("message") or answer[:200].decode(errors="replace").strip() or HTTPStatus(status).phrase
        said = "; ".join([message, *_budgets(told)])
        what = f"{self.host.name}: the API server at {self._where} refused {method} {path.partition('?')[0]}: {said}"
        details = told.get("details") or {}
        return ApiError(what, status=status, reason=told.get("reason") or "", kind=details.get("kind") or "", said=said)

    def _said(self, what: str) -> str:
        return f"the API server at {self._where}: {what}"


def object_path(api_version: str, kind: str, name: str, namespace: str = "") -> str:
    """Give the path of an object. Raises `KeyError` for a kind that `KINDS` lacks."""
    return f"{_collection(api_version, kind, namespace)}/{quote(name, safe='')}"


def _collection(api_version: str, kind: str, namespace: str) -> str:
    plural, namespaced = KINDS[kind]
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespaced and namespace else ""
    return f"{root}{inside}/{plural}"


def _passes(status: int, answer: bytes) -> bool:
    """Whether the server may say something else soon. A 500 without a reason is about the object (a wrong type).

    A budget of Pods may allow later what it forbids now; that may take hours, and is for the caller to wait for.
    """
    told = _json(answer)
    if _budgets(told):
        return False
    return status in _PASSING and (status != HTTPStatus.INTERNAL_SERVER_ERROR or not told or bool(told.get("reason")))


def _budgets(told: Mapping[str, Any]) -> list[str]:
    """Give what PodDisruptionBudgets say against an eviction."""
    causes = (told.get("details") or {}).get("causes") or []
    return [str(cause.get("message")) for cause in causes if cause.get("reason") == "DisruptionBudget"]


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    yield from itertools.repeat(1.0)


def _context(ca: bytes | None, certificate: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=ca.decode("ascii", errors="replace"))
    if key:
        # OpenSSL reads these from files only. An anonymous file in memory keeps the key off every disk.
        with ExitStack() as stack:
            context.load_cert_chain(*(_in_memory(stack, data) for data in (certificate, key)))
    return context


def _in_memory(stack: ExitStack, data: bytes) -> str:
    descriptor = os.memfd_create("kubestrap", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    os.write(descriptor, data)
    return f"/proc/self/fd/{descriptor}"


class _Connection(http.client.HTTPConnection):
    """HTTP over TLS over what the host dials. `sent` says whether the last request may have reached the server."""

    def __init__(self, host: Host, address: str, port: int, *, server_name: str, tls: ssl.SSLContext) -> None:
        super().__init__(f"[{server_name}]" if ":" in server_name else server_name, port)
        self.sent = False
        self._machine = host
        self._dialled = (address, port)
        self._server_name = server_name
        self._tls = tls
        self._deadline = 0.0
        self._used = 0.0

    def begin(self, deadline: float) -> None:
        """Let the next request end by `deadline`, over a new connection where the old one has been idle for long."""
        now = time.monotonic()
        if now - self._used > _IDLE_SECONDS:
            self.close()
        self._deadline, self._used, self.sent = deadline, now, False
        if self.sock is not None:
            cast("_Tls", self.sock).deadline = deadline

    def connect(self) -> None:
        """Dial, and shake hands."""
        address, port = self._dialled
        seconds = max(self._deadline - time.monotonic(), 0.1)
        plain = self._machine.dial(address, port, seconds=seconds)
        stream = _Tls(plain, self._tls, self._server_name, self._deadline)
        try:
            stream.shake_hands()
        except BaseException:
            stream.close()
            raise
        self.sock = cast("socket.socket", stream)

    def send(self, data: Any) -> None:
        """Send a part of a request."""
        if self.sock is None:
            self.connect()
        self.sent = True
        super().send(data)


class _Tls:
    """The socket that `http.client` uses: TLS in memory over anything that can `sendall` and `recv`.

    `ssl.wrap_socket` wants a file descriptor, which an SSH channel has not.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, server_name: str, deadline: float) -> None:
        self.deadline = deadline
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def shake_hands(self) -> None:
        """Agree on keys, and check the server's certificate and name."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return

    def sendall(self, data: bytes) -> None:
        """Take all of `data`; it leaves before the next read.

        `http.client` sends head and body apart, and the second of two small packets waits 40 ms for an acknowledgement
        (RFC 896, RFC 1122 4.2.3.2): together they are one.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
            if self._outgoing.pending > _BUFFER:
                self._flush()

    def read(self, size: int) -> bytes:
        """Give at least one byte, at most `size`; none at the end."""
        self._flush()
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 (always rb)
        """Give a reader, as `socket.makefile` does."""
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Close the connection below."""
        with suppress(OSError):
            self._plain.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._plain.settimeout(self._left())
            self._plain.sendall(data)

    def _fill(self) -> None:
        self._plain.settimeout(self._left())
        if data := self._plain.recv(_BUFFER):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _Reader(io.RawIOBase):
    def __init__(self, stream: _Tls) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
