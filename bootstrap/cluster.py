"""Doing the steps of the second kind: those that say what should be true at the API server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bootstrap import nodemarks
from bootstrap.api import Api
from bootstrap.errors import ApiError, ApiUnreachable, WaitTimedOut
from bootstrap.steps import ApiAbsent, ApiObject, ApiStep, ApiWait, Json, NodeMarks, title

_LAST_SECONDS = 5.0  # for the last answer of a wait, which may come late

OnWait = Callable[[str, float, float], None]
"""Called now and then while a wait goes on, with what is waited for, and the seconds gone by and allowed."""


def do(step: ApiStep, api: Api, *, on_wait: OnWait = lambda _what, _elapsed, _limit: None) -> str | None:
    """Make true what `step` says, and tell how: `created`, `configured`, `deleted`, `labelled`; None if nothing.

    "Nothing" is exact: it is told from the version of the very object that was compared, so neither defaults the
    server fills in, nor other people's fields, nor changes of others at the same moment count as ours.

    Raises `WaitTimedOut` where a wait's limit is reached, and what `Api` raises.
    """
    match step:
        case ApiObject(unless_exists=True):
            return _create(step, api, on_wait)
        case ApiObject():
            return _apply(step, api, on_wait)
        case ApiAbsent():
            deleted = api.delete(step.api_version, step.kind, step.name, step.namespace)
            return "deleted" if deleted else None
        case NodeMarks():
            for again in _attempts(title(step), api, on_wait):
                try:
                    return nodemarks.mark(step, api)
                except ApiError as error:
                    again(error)
            raise AssertionError("attempts end by raising")
        case ApiWait():
            _wait(step, api, on_wait)
            return None


@dataclass(frozen=True, slots=True)
class Finding:
    """What `look` found of one step: `how` it would change the object (None: not at all), from `before` to `after`.

    `unmet` says why a wait would have to wait, or what a step lacks that the run makes before.
    """

    how: str | None = None
    before: Json | None = None
    after: Json | None = None
    unmet: str = ""


def look(step: ApiStep, api: Api) -> Finding:
    """Find out what `do` would do now, by questions and by the server's own dry run; nothing is changed.

    The objects of the finding are without what the server keeps for itself. Raises what `Api` raises.
    """
    match step:
        case ApiObject():
            return _preview(step, api)
        case ApiAbsent():
            found = api.get_object(step.api_version, step.kind, step.name, step.namespace)
            return Finding() if found is None else Finding("deleted", _shown(found))
        case NodeMarks():
            marks = nodemarks.find(step, api)
            if marks is None:
                return Finding(unmet=f"there is no Node {step.name}")
            return Finding(marks.how, marks.before, marks.after) if marks.how else Finding()
        case ApiWait():
            answer = step.until(api.get_object(step.api_version, step.kind, step.name, step.namespace))
            return Finding() if answer is True else Finding(unmet=str(answer or "it is not so yet"))


def _preview(step: ApiObject, api: Api) -> Finding:
    for again in _attempts(title(step), api, lambda _what, _elapsed, _limit: None):
        before = _current(step, api)
        if before is None:
            return Finding("created", None, step.manifest)
        if step.unless_exists:
            return Finding()
        version = before["metadata"]["resourceVersion"]
        try:
            after = api.preview(step.manifest, resource_version=version)
        except ApiError as error:
            again(error)
        else:
            # A dry run gives no new version to tell a change by, so the objects are compared, with their owners.
            same = _shown(before) == _shown(after) and _owned(before) == _owned(after)
            return Finding() if same else Finding("configured", _shown(before), _shown(after))
    raise AssertionError("attempts end by raising")


def _shown(found: Json) -> dict[str, Any]:
    kept = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
    metadata = {key: value for key, value in found["metadata"].items() if key not in kept}
    return {key: value for key, value in found.items() if key != "status"} | {"metadata": metadata}


def _owned(found: Json) -> list[dict[str, Any]]:
    """List who owns which fields, without times, which a change of nothing leaves alone, and without the status."""
    entries = found["metadata"].get("managedFields") or []
    return [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in entries
        if not entry.get("subresource")
    ]


def _create(step: ApiObject, api: Api, on_wait: OnWait) -> str | None:
    for again in _attempts(title(step), api, on_wait):
        if _current(step, api) is not None:
            return None
        try:
            api.create(step.manifest)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return None
            again(error)
        else:
            return "created"
    raise AssertionError("attempts end by raising")


def _apply(step: ApiObject, api: Api, on_wait: OnWait) -> str | None:
    for again in _attempts(title(step), api, on_wait):
        before = _current(step, api)
        version = "" if before is None else before["metadata"]["resourceVersion"]
        if before is not None and "deletionTimestamp" in before["metadata"]:
            again(ApiError(f"{title(step)} is still being deleted", status=HTTPStatus.CONFLICT))
            continue
        try:
            after = api.apply(step.manifest, resource_version=version)
        except ApiError as error:
            again(error)
        else:
            # The server leaves the version alone where applying changes nothing.
            return (
                "created"
                if before is None
                else None
                if after["metadata"]["resourceVersion"] == version
                else "configured"
            )
    raise AssertionError("attempts end by raising")


def _current(step: ApiObject, api: Api) -> dict[str, Any] | None:
    metadata = step.manifest["metadata"]
    return api.get_object(
        step.manifest["apiVersion"], step.manifest["kind"], metadata["name"], metadata.get("namespace", "")
    )


def _attempts(what: str, api: Api, on_wait: OnWait) -> Iterator[Callable[[ApiError], None]]:
    """Go round until time is over. A round that failed calls what it got with its error, which raises the lasting ones.

    What passes: another writer was faster, and a namespace that a starting API server has not made yet.
    """
    begun = time.monotonic()
    pause = 0.05

    def again(error: ApiError) -> None:
        passing = error.status == HTTPStatus.CONFLICT or (
            error.status == HTTPStatus.NOT_FOUND and error.kind == "namespaces"
        )
        elapsed = time.monotonic() - begun
        if not passing or elapsed + pause >= api.seconds:
            raise error
        on_wait(what, elapsed, api.seconds)
        time.sleep(pause)

    while True:
        yield again
        pause = min(pause * 2, 1.0)


def _wait(step: ApiWait, api: Api, on_wait: OnWait) -> None:
    begun = time.monotonic()
    pause = 0.1
    why = "it is not so yet"
    while True:
        left = step.seconds - (time.monotonic() - begun)
        try:
            found = api.get_object(
                step.api_version,
                step.kind,
                step.name,
                step.namespace,
                seconds=min(max(left, _LAST_SECONDS), api.seconds),
            )
        except ApiUnreachable as error:
            why = error.what
        else:
            answer = step.until(found)
            if answer is True:
                return
            why = answer or why if isinstance(answer, str) else why
        elapsed = time.monotonic() - begun
        if elapsed >= step.seconds:
            raise WaitTimedOut(api.host.name, f"waited {step.seconds:g} s for {step.what}: {why}")
        on_wait(step.what, elapsed, step.seconds)
        time.sleep(min(pause, step.seconds - elapsed))
        pause = min(pause * 1.5, 1.0)
