"""The smoke test: what a cluster is for, tried in a namespace of its own, which is gone afterwards.

A Deployment is rolled out over the workers, and a Pod runs on every node. From each of those the Deployment's Service
is reached by address (which is the node's own kube-proxy at work) and by name (DNS), and the Pods of the other nodes by
theirs; logs and exec work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from bootstrap import paths, spec
from bootstrap.departure import is_ready
from bootstrap.transport.base import Host

UNTIL = "kubestrap.io/verify-until"
"""Label of the test's namespace: by when the test is over, in seconds of the control-plane machine's clock."""
PORT = 8080
AGNHOST = "/agnhost"
ALL_PAIRS = 12
"""Nodes up to which every Pod tries every other. Among more, each tries its two neighbours in a ring."""
AT_ONCE = 4
"""Commands on the control-plane machine at the same time: OpenSSH's server allows ten sessions on a connection, and
counts one that has ended until it gets round to it."""
TEXTS: Mapping[str, str] = {
    "smoke/rollout": "A Deployment is rolled out over the workers, and a Pod runs on every node",
    "smoke/exec": "Commands can be run in Pods",
    "smoke/logs": "The logs of Pods can be read",
    "smoke/pods": "Pods of every two nodes reach each other, both ways",
    "smoke/service-address": "A Service is reached by its address from a Pod on every node",
    "smoke/service-name": "A Service is reached by its name from a Pod on every node",
    "smoke/clean-up": "What the smoke test made is gone afterwards",
}
"""The parts, in order, and what each says of a cluster."""

Attempt = Callable[[], str]
"""Tries something once, and gives why it failed: nothing where it did not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long parts are waited for, in seconds. What a killed test left is removed after the `lifetime` of its own.

    `start` is for what is still starting in a cluster that was made or changed just now.
    """

    start: float = 90
    rollout: float = 180
    reach: float = 30
    clean_up: float = 120
    lifetime: float = 3600


@dataclass(frozen=True, slots=True)
class Part:
    """What came of one part of the test."""

    id: str
    problems: tuple[str, ...]


class Smoke:
    """One smoke test, by kubectl on a control-plane machine. `namespace` must be a new one."""

    def __init__(self, host: Host, inventory: spec.Inventory, image: str, namespace: str, limits: Limits) -> None:
        self._host = host
        self._inventory = inventory
        self._image = image
        self._namespace = namespace
        self._limits = limits

    def run(self) -> Iterator[Part]:
        """Go through the parts in order. What was made is removed, however the test ends. Raises `HostError`."""
        try:
            yield from self._parts()
        finally:
            left = tuple(self._clean_up())
        yield Part("smoke/clean-up", left)

    def _parts(self) -> Iterator[Part]:
        problems = tuple(self._rollout())
        yield Part("smoke/rollout", problems)
        pods = self._pods()
        clients = [pod for pod in pods if pod["metadata"]["labels"]["app"] == "client" and is_ready(pod)]
        servers = [pod for pod in pods if pod["metadata"]["labels"]["app"] == "server" and is_ready(pod)]
        domain = self._inventory.cluster.networking.dns_domain
        by_name = f"server.{self._namespace}.svc.{domain}:80"
        by_address = self._service() if servers else ""
        served = clients if servers else []
        attempts: dict[str, list[Attempt]] = {
            "smoke/exec": [partial(self._exec, pod) for pod in clients],
            "smoke/logs": [partial(self._logs, pod) for pod in servers],
            "smoke/pods": [partial(self._reached, one, _target(other), _on(other)) for one, other in pairs(clients)],
            "smoke/service-address": [partial(self._reached, pod, by_address) for pod in served],
            "smoke/service-name": [partial(self._reached, pod, by_name) for pod in served],
        }
        nobody = () if clients and servers else ("no Pods run that it could be tried with",)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            begun = {part: [pool.submit(attempt) for attempt in each] for part, each in attempts.items()}
            for part, each in begun.items():
                problems = tuple(filter(None, (future.result() for future in each)))
                yield Part(part, problems or nobody)

    def _rollout(self) -> Iterator[str]:
        applied = self._kubectl("apply --filename -", stdin=self._manifests(), seconds=60)
        if applied:
            yield applied
            return
        for what in ("deployment/server", "daemonset/client"):
            limit = self._limits.rollout
            why = self._kubectl(f"rollout status {what} --timeout {limit:g}s", seconds=limit + 30)
            if why:
                yield f"{what}: {why}"
        for pod in self._pods():
            if not is_ready(pod):
                yield f"{_on(pod)}: {_why(pod)}"

    def _exec(self, pod: Any) -> str:
        why = self._kubectl(f"exec {_name(pod)} -- {AGNHOST} --version", seconds=30)
        return why and f"in {_on(pod)}: {why}"

    def _logs(self, pod: Any) -> str:
        why = self._kubectl(f"logs {_name(pod)}", seconds=30, expect=b"HTTP server")
        return why and f"of {_on(pod)}: {why}"

    def _reached(self, pod: Any, target: str, of: str = "") -> str:
        connect = f"exec {_name(pod)} -- {AGNHOST} connect --timeout 5s '{target}'"
        why = _until(self._limits.reach, partial(self._kubectl, connect, seconds=30))
        return why and f"{of and f'{of}, '}{target} from {_on(pod)}: {why}"

    def _service(self) -> str:
        result = self._run("get service server --output jsonpath={.spec.clusterIP}", seconds=30)
        return _socket(result.stdout.decode().strip(), 80)

    def _clean_up(self) -> Iterator[str]:
        limit = self._limits.clean_up
        names = [self._namespace, *self._forsaken()]
        why = self._kubectl(
            f"delete namespace {' '.join(names)} --ignore-not-found --timeout {limit:g}s", seconds=limit + 30
        )
        self._host.run(f"cd /run && rm -rf {' '.join(names)}", seconds=30)
        if why:
            yield f"namespace {', '.join(names)}: {why}"

    def _forsaken(self) -> list[str]:
        """Name the namespaces of tests that were killed: their time is over."""
        result = self._run(f"get namespaces --selector {UNTIL} --output json", seconds=30)
        if result.status:
            return []
        found = [item["metadata"] for item in json.loads(result.stdout)["items"]]
        now = self._now()
        return [metadata["name"] for metadata in found if int(metadata["labels"][UNTIL]) < now]

    def _now(self) -> int:
        return int(self._host.run("date +%s", seconds=30).stdout)

    def _pods(self) -> list[Any]:
        result = self._run("get pods --output json", seconds=30)
        pods: list[Any] = json.loads(result.stdout)["items"] if result.status == 0 else []
        return pods

    def _kubectl(self, command: str, *, seconds: float, stdin: bytes = b"", expect: bytes = b"") -> str:
        """Run kubectl, and give why it failed: nothing where it did not."""
        result = self._run(command, seconds=seconds, stdin=stdin)
        if result.status == 0:
            return "" if expect in result.stdout else f"{expect.decode()!r} is not in it"
        text = (result.stderr + result.stdout).decode(errors="replace").strip().splitlines()
        return text[-1] if text else f"kubectl exited with {result.status}"

    def _run(self, command: str, *, seconds: float, stdin: bytes = b"") -> Any:
        options = f"--kubeconfig {paths.ADMIN_CONF} --cache-dir {self._cache} --namespace {self._namespace}"
        # A time-out of kubectl's own is told better than that of its command; exec and logs know none.
        line = f"timeout -k 5 {seconds:g} {paths.BINARIES}/kubectl {options} {command}"
        return self._host.run(line, stdin=stdin, seconds=seconds + 30)

    @property
    def _cache(self) -> str:
        return f"/run/{self._namespace}"

    def _manifests(self) -> bytes:
        workers = [host for host in self._inventory.hosts if host.is_worker]
        everywhere = [{"operator": "Exists"}]
        server = _pod("server", self._image, [] if workers else everywhere)
        server["spec"]["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": {"app": "server"}},
            }
        ]
        namespace = _object("v1", "Namespace", self._namespace)
        namespace["metadata"]["labels"] = {UNTIL: str(self._now() + round(self._limits.lifetime))}
        objects = [
            namespace,
            _object("apps/v1", "Deployment", "server", spec=_selecting(server, replicas=max(2, len(workers)))),
            _object("apps/v1", "DaemonSet", "client", spec=_selecting(_pod("client", self._image, everywhere))),
            _object(
                "v1",
                "Service",
                "server",
                spec={"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": PORT}]},
            ),
        ]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()


def _object(api_version: str, kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def _selecting(template: Any, **fields: Any) -> dict[str, Any]:
    return {"selector": {"matchLabels": template["metadata"]["labels"]}, "template": template, **fields}


def _pod(app: str, image: str, tolerations: Sequence[Any]) -> dict[str, Any]:
    container = {
        "name": app,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["netexec", f"--http-port={PORT}"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1},
    }
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "tolerations": list(tolerations),
            "containers": [container],
        },
    }


def pairs(pods: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Give who is to try whom: every two, both ways; of more than `ALL_PAIRS` only neighbours in a ring."""
    count = len(pods)
    for at, one in enumerate(pods):
        others = range(count) if count <= ALL_PAIRS else sorted({(at - 1) % count, (at + 1) % count})
        yield from ((one, pods[other]) for other in others if other != at)


def _target(pod: Any) -> str:
    return _socket(pod["status"]["podIP"], PORT)


def _socket(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _name(pod: Any) -> str:
    return str(pod["metadata"]["name"])


def _on(pod: Any) -> str:
    node = pod["spec"].get("nodeName")
    return f"{_name(pod)} on {node}" if node else _name(pod)


def _why(pod: Any) -> str:
    status = pod["status"]
    for each in status.get("containerStatuses", []):
        if "waiting" in each["state"]:
            return f"{each['state']['waiting'].get('reason')}: {each['state']['waiting'].get('message', '')}"
    unmet = [each["message"] for each in status.get("conditions", []) if each["status"] != "True" and "message" in each]
    return unmet[0] if unmet else str(status.get("phase"))


def _until(seconds: float, attempt: Callable[[], str]) -> str:
    """Try until there is nothing to complain of, or the time is over: rules of a new Service take a moment."""
    deadline = time.monotonic() + seconds
    while True:
        why = attempt()
        if not why or time.monotonic() > deadline:
            return why
        time.sleep(1)
