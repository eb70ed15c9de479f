from __future__ import annotations

import datetime
import json
import re
from typing import Any, get_args

import pytest

from bootstrap import cli, events, jsonlines
from bootstrap.errors import (
    ApiError,
    BootstrapError,
    HostsFailed,
    PkiProblem,
    PkiRefused,
    StepFailed,
    Unreachable,
    VerificationFailed,
    WaitTimedOut,
)
from bootstrap.events import Event
from tests.schemas import wrong
from tools import events_docs

NOW = datetime.datetime(2026, 11, 26, 12, 0, 0, 250000, tzinfo=datetime.UTC)
STATE = events.HostState("w1", "changed", 1, 2, 3.0)
EVENTS: tuple[Event, ...] = (
    events.Started("init", "kubernetes", ("cp1",), "0.1.0", "/log"),
    events.Note("text"),
    events.Warned("w1", "Swap", "what", "fix"),
    events.PhaseStarted("w1", "etcd"),
    events.StepDone("w1", "etcd", "/x", "changed", "created"),
    events.Waiting("w1", "etcd", "it", 1.0, 3.0),
    events.Sending("w1", "prepare", 1, 2),
    events.PhaseDone("w1", "etcd", 1.0, 1, 2),
    events.HostFailed("w1", "etcd", StepFailed("w1", "etcd", "/x", "why")),
    events.HostFailed("w1", "", Unreachable("w1", "why")),
    events.Drift("w1", "etcd", "/x", "updated", "-a\n+b"),
    events.Depends("w1", "etcd", "it", "prepare", "/x", "done"),
    events.Checked("w1", "swap", ("it is on",)),
    events.Recap((STATE,), 4.0),
    events.Result({"anything": [1, None, True, {"x": 1.5}], "path": jsonlines.__name__}),
    events.Ended(8, 1.0, (events.Failure("Unreachable", "why", 5, "w1"),)),
)


def problems(line: str) -> list[str]:
    schema: Any = json.loads(events_docs.SCHEMA.read_text())
    shape = {"oneOf": schema["oneOf"]}
    return list(wrong(json.loads(line), shape, schema["$defs"]))


def written(event: Event) -> str:
    return jsonlines.line(event, NOW, str)


def test_every_kind_of_event_is_tried_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_lines_are_as_the_published_schema_says(event: Event) -> None:
    assert problems(written(event)) == []


def test_the_check_against_the_schema_finds_what_is_wrong() -> None:
    line = written(events.PhaseStarted("w1", "etcd"))
    assert problems(line.replace('"version":1', '"version":2'))
    assert problems(line.replace('"phase":', '"phrase":'))
    assert problems(line.replace('"w1"', "1"))
    assert problems(line.replace("phase-started", "phase-begun"))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_with_version_kind_and_time_first(event: Event) -> None:
    line = written(event)
    assert re.match(r'\{"version":1,"event":"[a-z-]+","time":"2026-11-26T12:00:00\.250Z"', line)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("arguments", "code", "last_but_one"),
    [
        (["config", "defaults"], 0, "result"),
        (["config", "validate", "-i", str(events_docs.ROOT / "inventory.example.yaml")], 0, "result"),
        (["config", "validate", "-i", "/nowhere"], 3, None),
        (["config", "validate", "--no-such-option"], 2, None),
        (["no-such-command"], 2, None),
        (["init", "-i", "/nowhere"], 3, None),
        (["verify", "--list"], 0, "result"),
        (["phases", "ls", "join"], 0, "result"),
        (["plan", "init", "-i", str(events_docs.ROOT / "inventory.example.yaml")], 0, "result"),
    ],
)
def test_real_commands_write_lines_as_the_schema_says(
    arguments: list[str], code: int, last_but_one: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*arguments, "--output", "json"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [problem for line in lines for problem in problems(line)] == []
    told = [json.loads(line) for line in lines]
    assert [line["event"] for line in told] == [*([last_but_one] if last_but_one else []), "ended"]
    assert told[-1]["exitCode"] == code
    assert bool(told[-1]["errors"]) == (code != 0)


def test_what_is_masked_is_masked_in_every_field_and_key() -> None:
    event = events.Result({"secret": ["a secret", {"the secret": "secret"}], "n": 1})
    assert "secret" not in jsonlines.line(event, NOW, lambda text: text.replace("secret", "x"))


def test_each_host_problem_and_check_is_a_failure_of_its_own() -> None:
    error = HostsFailed(
        {
            "w1": WaitTimedOut("w1", "waited"),
            "w2": PkiRefused([PkiProblem("w2", "/ca.crt", "has expired", "renew it")]),
            "w3": VerificationFailed([("w3", "swap"), ("w4", "swap")]),
            "w5": ApiError("refused", status=403),
        }
    )
    assert [(each.kind, each.host, each.place, each.check, each.exit_code) for each in jsonlines.failures(error)] == [
        ("WaitTimedOut", "w1", "", "", 10),
        ("PkiRefused", "w2", "/ca.crt", "", 3),
        ("VerificationFailed", "w3", "", "swap", 1),
        ("VerificationFailed", "w4", "", "swap", 1),
        ("ApiError", "w5", "", "", 1),
    ]


def test_an_error_nobody_foresaw_is_a_failure_too() -> None:
    (failure,) = jsonlines.failures(KeyError("x"))
    assert (failure.kind, failure.exit_code) == ("KeyError", 1)


def test_the_document_and_the_schema_show_the_events_as_they_are() -> None:
    told = "run python -m tools.events_docs"
    assert events_docs.SCHEMA.read_text() == events_docs.schema(), told
    assert events_docs.DOCUMENT.read_text() == events_docs.document(), told


def test_every_error_has_a_kind_that_is_its_class() -> None:
    assert jsonlines.failures(BootstrapError("x"))[0].kind == "BootstrapError"
