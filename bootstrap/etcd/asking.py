"""Calls of etcd's API, made on the member's own machine over the run's connection.

kubectl calls etcd's gateway (gRPC as JSON), as in `verify`: it is on every machine, it streams, and the client's key is
read by it alone: only its path is in the arguments.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from bootstrap import lock, paths
from bootstrap.errors import BootstrapError, EtcdAbsent, EtcdRefused, EtcdUnreachable
from bootstrap.etcd.members import Member, Seen, Status, members, status
from bootstrap.parallel import attempt
from bootstrap.transport.base import Forwarding, Host

SECONDS = 20.0
"""The limit of one short call."""
_PKI = f"{paths.PKI}/etcd"
_KUBECTL = f"{paths.BINARIES}/kubectl"
_ENDPOINT = "https://127.0.0.1:2379"
_KEY = f"{_PKI}/healthcheck-client.key"
_ABSENT = 64
_LOCK_LOST = 9  # of a command that the lease guards
_OVERDUE = (124, 137)  # of timeout(1)
_SPARE_SECONDS = 15.0
# kubectl tells how the gateway translated etcd's error, not its words.
_REFUSED = re.compile(r"Error from server(?: \((\w+)\))?: (.*)")
_NO_QUORUM = "no leader confirms it: more than half of the members must run and reach each other"
_MEANINGS: Mapping[str, str] = {
    "ServiceUnavailable": _NO_QUORUM,
    "Timeout": _NO_QUORUM,
    "TooManyRequests": "the cluster takes no writes (alarm NOSPACE)",
}
_HEALTH_KEY = "aGVhbHRo"  # "health", which etcdctl reads too; it need not be there


class Elsewhere(Forwarding):
    """A machine from which a member on another one is asked, at `url`, with the client certificate that it holds."""

    def __init__(self, host: Host, url: str) -> None:
        super().__init__(host)
        self.url = url


def call(host: Host, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = SECONDS) -> dict[str, Any]:
    """Call `path` of the member on `host`, and give its answer.

    Raises `EtcdUnreachable` where it does not answer within `seconds`, `EtcdRefused` where it answers with an error,
    `EtcdAbsent` where the machine has no member; `HostError` for all that is wrong with the connection.
    """
    lines: list[bytes] = []
    stream(host, path, lines.append, body, seconds=seconds)
    try:
        answer = json.loads(b"\n".join(lines))
    except ValueError as error:
        raise EtcdRefused(host.name, f"etcd's answer to {path} is no JSON") from error
    return dict(answer)


def stream(
    host: Host,
    path: str,
    hear: Callable[[bytes], None],
    body: Mapping[str, Any] | None = None,
    *,
    seconds: float,
) -> None:
    """Call `path`, and have `hear` called with each line of the answer. Raises as `call` does, and what `hear` does."""
    asked = json.dumps(body or {}).encode()
    server = host.url if isinstance(host, Elsewhere) else _ENDPOINT
    result = host.run(command(path, seconds, server), stdin=asked, seconds=seconds + _SPARE_SECONDS, on_line=hear)
    if result.status == 0:
        return
    said = result.stderr.decode(errors="replace").strip()
    if result.status == _ABSENT:
        raise EtcdAbsent(host.name, f"there is no etcd member ({_KEY} is missing): run `kubestrap init` first")
    if result.status == _LOCK_LOST:
        raise lock.lost(host.name)
    if found := _REFUSED.search(said):
        meaning = _MEANINGS.get(found[1], found[2])
        raise EtcdRefused(host.name, f"etcd refuses {path}: {meaning} ({found[1]})", reason=found[1])
    late = f"no answer to {path} within {seconds:g} s"
    what = late if result.status in _OVERDUE else (said.splitlines() or ["nothing was said"])[-1].partition(" - did")[0]
    raise EtcdUnreachable(
        host.name,
        f"its etcd member does not answer: {what}. `kubestrap init` starts it, or says why it does not start",
    )


def command(path: str, seconds: float, server: str = _ENDPOINT) -> str:
    """Give the command that calls `path` with what it reads from standard input."""
    options = {
        "kubeconfig": "/dev/null",
        "server": server,
        "certificate-authority": f"{_PKI}/ca.crt",
        "client-certificate": f"{_PKI}/healthcheck-client.crt",
        "client-key": _KEY,
        "raw": path,
        "filename": "-",
    }
    words = [part for name, value in options.items() for part in (f"--{name}", value)]
    asking = shlex.join(["timeout", "-k", "5", f"{seconds:g}", _KUBECTL, "create", *words])
    return f"[ -f {_KEY} ] || exit {_ABSENT}; {asking}"


def look(hosts: Mapping[str, Host], unreached: Mapping[str, BootstrapError]) -> tuple[Seen, dict[str, BootstrapError]]:
    """Ask the member on each of `hosts`, all at once; give what was seen, and why some could not be asked.

    `unreached` is why some hosts could not be connected to; it is among the latter. Each member answers for itself, so
    that it does so without a quorum, too.
    """

    def ask(name: str) -> tuple[Status, tuple[Member, ...]]:
        said = status(name, call(hosts[name], "/v3/maintenance/status"))
        return said, members(call(hosts[name], "/v3/cluster/member/list", {"linearizable": False}))

    found, failed = attempt(list(hosts), ask)
    failures = {**unreached, **failed}
    # The longest list is the newest while members are added, and names all where one is behind.
    listed = max((list_ for _, list_ in found.values()), key=len, default=())
    return Seen({name: said for name, (said, _) in found.items()}, listed, frozenset(failures)), failures


def enrolled(host: Host, *, seconds: float = SECONDS) -> tuple[Member, ...]:
    """Give the members as a majority knows them, asked of the one on `host`. Raises as `call` does."""
    return members(call(host, "/v3/cluster/member/list", {"linearizable": True}, seconds=seconds))


def require_health(host: Host) -> None:
    """Read through the member on `host` what only a majority can confirm. Raises as `call` does."""
    call(host, "/v3/kv/range", {"key": _HEALTH_KEY})
