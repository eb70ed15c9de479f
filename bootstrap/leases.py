"""A Lease in the cluster (coordination.k8s.io/v1): one change of the control plane at a time, whoever makes it.

The locks of machines (`lock`) do not do for that: a run need not reach every control-plane host, and two runs that
change etcd's members may work on different hosts.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from bootstrap.api import Api
from bootstrap.errors import ApiError, BootstrapError, LeaseHeld, LeaseLost
from bootstrap.lock import Owner

CONTROL_PLANE = "kubestrap-control-plane"
"""The Lease under which the control plane's hosts are added and taken out."""
NAMESPACE = "kube-system"
SECONDS = 30
"""How long after its last renewal a Lease is still held."""
BEAT = 5.0
"""Seconds between renewals, and between looks at a Lease that somebody else holds."""
_API = "coordination.k8s.io/v1"
_CALL_SECONDS = 10.0
_HOLDER_LENGTH = 128  # what the API takes of holderIdentity


class Holding:
    """A Lease that a run holds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._renewed = time.monotonic()
        self._lost = False

    def check(self) -> None:
        """Raise `LeaseLost` where somebody else may hold the Lease by now. To be asked before each step that counts."""
        if self._lost or time.monotonic() - self._renewed >= SECONDS:
            raise LeaseLost(self._name)

    def renew(self, at: float) -> None:
        """Note that it was renewed by a request that was sent `at` (monotonic)."""
        self._renewed = at

    def lose(self) -> None:
        """Note that somebody else took it."""
        self._lost = True


@contextmanager
def held(
    connect: Callable[[], Api],
    owner: Owner,
    on_wait: Callable[[str, float, float], None],
    name: str = CONTROL_PLANE,
) -> Iterator[Holding]:
    """Hold the Lease `name` for a while; it is renewed over a connection of its own.

    One that a living run holds raises `LeaseHeld` with its holder. One whose holder gives no sign is waited for
    until it lapses, and taken; `on_wait` is told (what, seconds, limit) meanwhile. No clocks are compared.
    Raises what calls of the API do.
    """
    identity = f"{owner.who} runs `{owner.command}` since {owner.since}"[:_HOLDER_LENGTH]
    with connect() as api:
        lease = _take(api, name, identity, on_wait)
        holding = Holding(name)
        stop = threading.Event()
        beats = threading.Thread(target=_renew, args=(api, lease, holding, stop), daemon=True)
        beats.start()
        try:
            yield holding
        finally:
            stop.set()
            beats.join(_CALL_SECONDS)
            with suppress(BootstrapError):  # it lapses by itself
                _release(api, lease)


def exists(api: Api, name: str = CONTROL_PLANE) -> bool:
    """Say whether the Lease `name` was ever held in this cluster."""
    return api.get_object(_API, "Lease", name, NAMESPACE) is not None


def _take(api: Api, name: str, identity: str, on_wait: Callable[[str, float, float], None]) -> dict[str, Any]:
    began, seen = time.monotonic(), ""
    while True:
        found = api.get_object(_API, "Lease", name, NAMESPACE)
        holder = (found or {}).get("spec", {}).get("holderIdentity") or ""
        elapsed = time.monotonic() - began
        if holder and elapsed < SECONDS:
            version = str((found or {})["metadata"]["resourceVersion"])
            if seen and version != seen:
                raise LeaseHeld(name, holder)
            seen = version
            on_wait(f"the Lease {name} of a run that gives no sign ({holder})", elapsed, SECONDS)
            time.sleep(min(BEAT, SECONDS - elapsed))
            continue
        try:
            return _claim(api, name, identity, found)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            began, seen = time.monotonic(), ""  # somebody was quicker; a retried request of ours is taken for one


def _claim(api: Api, name: str, identity: str, found: Mapping[str, Any] | None) -> dict[str, Any]:
    now = _now()
    spec = {"holderIdentity": identity, "leaseDurationSeconds": SECONDS, "acquireTime": now, "renewTime": now}
    if found is None:
        metadata = {"name": name, "namespace": NAMESPACE}
        return api.create({"apiVersion": _API, "kind": "Lease", "metadata": metadata, "spec": spec})
    changes = found["spec"].get("leaseTransitions") or 0
    return _patch(api, found, {**spec, "leaseTransitions": changes + 1})


def _renew(api: Api, lease: dict[str, Any], holding: Holding, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        sent = time.monotonic()
        try:
            lease["metadata"] = _patch(api, lease, {"renewTime": _now()})["metadata"]
        except ApiError as error:
            if error.status not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                continue  # it may be able to the next time
            if not _is_ours(api, lease):
                holding.lose()
                return
        except BootstrapError:
            continue
        else:
            holding.renew(sent)


def _is_ours(api: Api, lease: dict[str, Any]) -> bool:
    """Say whether a refused renewal was one that had arrived already; then the next one is of the newest version."""
    try:
        found = api.get_object(_API, "Lease", lease["metadata"]["name"], NAMESPACE, seconds=_CALL_SECONDS)
    except BootstrapError:
        return True  # nobody knows yet, and it lapses if it is not
    marks = ("holderIdentity", "acquireTime")
    if found is None or any(found["spec"].get(mark) != lease["spec"].get(mark) for mark in marks):
        return False
    lease["metadata"] = found["metadata"]
    return True


def _release(api: Api, lease: Mapping[str, Any]) -> None:
    _patch(api, lease, {"holderIdentity": None, "acquireTime": None, "renewTime": None})


def _patch(api: Api, lease: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = lease["metadata"]
    version = metadata["resourceVersion"]
    return api.merge_patch(_API, "Lease", metadata["name"], {"spec": dict(spec)}, NAMESPACE, resource_version=version)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
