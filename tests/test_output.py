from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from bootstrap import cli, logs, pki
from bootstrap.errors import BootstrapError, HostsFailed, PreflightFailed, Problem, StepFailed, Unreachable
from bootstrap.events import Checked, HostFailed, PhaseDone, PhaseStarted, StepDone, Waiting
from bootstrap.options import OutputOption
from bootstrap.output import Output
from bootstrap.redaction import MASK
from bootstrap.spec import Host, Inventory

HOSTS = ("cp1", "w1", "w2")
TOKEN = "abcdef.0123456789abcdef"


def inventory() -> Inventory:
    roles = {"cp1": ("control-plane",), "w1": ("worker",), "w2": ("worker",)}
    return Inventory(hosts=tuple(Host(name=name, address="192.0.2.1", roles=roles[name]) for name in HOSTS))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path / "state"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def kinds(text: str) -> list[str]:
    return [line["event"] for line in lines(text)]


def log_of(state: Path) -> Path:
    (path,) = (state / "kubestrap" / "logs" / "kubernetes").iterdir()
    return path


def command(work: Any, monkeypatch: pytest.MonkeyPatch, form: str = "json") -> int:
    """Run a command line whose only command does `work` with its output."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def only(*, output: OutputOption) -> None:
        work(output)

    monkeypatch.setattr(cli, "command", lambda: app)
    return cli.run(["--output", form])


def worked(output: Output) -> None:
    with output.run("join", inventory(), HOSTS) as listener:
        listener(PhaseStarted("w1", "kubelet-start"))
        listener(StepDone("w1", "kubelet-start", "/x", "changed", "created"))
        listener(Waiting("w1", "kubelet-start", "the Node to be Ready", 10.0, 240.0))
        listener(PhaseDone("w1", "kubelet-start", 2.0, changed=1, steps=1))
        listener(PhaseStarted("w2", "kubelet-start"))
        error = StepFailed("w2", "kubelet-start", "kubelet.service", "it did not start")
        listener(HostFailed("w2", "kubelet-start", error))
        raise HostsFailed({"cp1": Unreachable("cp1", "no answer"), "w2": error}, ["w1"])


def test_a_runs_events_are_lines_that_end_with_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(worked, monkeypatch) == 8
    told = capsys.readouterr()
    assert kinds(told.out) == [
        "started",
        "phase-started",
        "step-done",
        "waiting",
        "phase-done",
        "phase-started",
        "host-failed",
        "recap",
        "ended",
    ]
    waiting = lines(told.out)[3]
    assert (waiting["elapsed"], waiting["limit"], waiting["left"]) == (10.0, 240.0, 230.0)
    assert lines(told.out)[-1]["exitCode"] == 8


def test_the_recap_has_every_hosts_state(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(worked, monkeypatch)
    (recap,) = (line for line in lines(capsys.readouterr().out) if line["event"] == "recap")
    assert {host["host"]: host["state"] for host in recap["hosts"]} == {
        "cp1": "unreachable",
        "w1": "changed",
        "w2": "failed",
    }


def test_errors_at_the_end_are_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(worked, monkeypatch)
    first, second = lines(capsys.readouterr().out)[-1]["errors"]
    assert (first["kind"], first["host"], first["what"], first["exitCode"]) == ("Unreachable", "cp1", "no answer", 5)
    assert {key: second[key] for key in ("kind", "host", "phase", "step", "what")} == {
        "kind": "StepFailed",
        "host": "w2",
        "phase": "kubelet-start",
        "step": "kubelet.service",
        "what": "it did not start",
    }


def test_a_run_that_was_cut_short_says_who_is_unfinished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(output: Output) -> None:
        with output.run("join", inventory(), HOSTS) as listener:
            listener(PhaseStarted("w1", "kubelet-start"))
            raise KeyboardInterrupt

    assert command(interrupted, monkeypatch) == 130
    recap, ended = lines(capsys.readouterr().out)[-2:]
    assert [host["state"] for host in recap["hosts"]] == ["not-begun", "unfinished", "not-begun"]
    assert ended["exitCode"] == 130


def test_every_problem_of_preflight_is_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unfit(output: Output) -> None:
        output.warn(Problem("w1", "Hostname", "warning", "it is not resolved", "add it"))
        problems = [Problem(host, "Swap", "error", "swap is on", "turn it off") for host in ("w1", "w2")]
        raise PreflightFailed(problems)

    assert command(unfit, monkeypatch) == 4
    warned, ended = lines(capsys.readouterr().out)
    assert (warned["event"], warned["check"]) == ("warned", "Hostname")
    assert [(error["host"], error["check"], error["fix"]) for error in ended["errors"]] == [
        ("w1", "Swap", "turn it off"),
        ("w2", "Swap", "turn it off"),
    ]


def test_the_log_of_a_run_holds_the_same_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    command(worked, monkeypatch)
    told = capsys.readouterr()
    log = log_of(state)
    assert lines(log.read_text()) == [{**line, "time": again["time"]} for line, again in both(told.out, log)]
    assert lines(told.out)[0]["log"] == str(log)
    assert f"The log of this run: {log}" in told.err


def both(out: str, log: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    return zip(lines(out), lines(log.read_text()), strict=True)


def test_the_log_is_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    command(worked, monkeypatch, "text")
    log = log_of(state)
    assert log.stat().st_mode & 0o777 == 0o600
    assert [folder.stat().st_mode & 0o777 for folder in list(log.parents)[:3]] == [0o700] * 3


def test_a_log_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    state.write_text("in the way")
    assert command(worked, monkeypatch, "text") == 8
    assert "Warning: this run has no log: " in capsys.readouterr().err


def test_a_full_disk_ends_the_log_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(place: Path, command: str, time: object) -> Any:
        return Path("/dev/full"), Path("/dev/full").open("w", buffering=1)

    monkeypatch.setattr(logs, "create", full)
    assert command(worked, monkeypatch, "text") == 8
    told = capsys.readouterr().err
    assert "Warning: the log /dev/full ends here: No space left on device" in told
    assert told.count("/dev/full") == 1


def test_only_the_newest_logs_are_kept(state: Path) -> None:
    import datetime

    place = logs.folder("kubernetes", os.environ)
    made = []
    for day in range(1, 26):
        path, file = logs.create(place, "init", datetime.datetime(2026, 1, day, tzinfo=datetime.UTC))
        file.close()
        made.append(path.name)
    assert sorted(path.name for path in place.iterdir()) == made[-logs.KEPT :]


def test_data_is_a_result_and_for_people_it_is_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def give(output: Output) -> None:
        output.note("By the way.")
        output.result({"answer": 42}, "It is 42.")

    assert command(give, monkeypatch) == 0
    note, result, _ = lines(capsys.readouterr().out)
    assert (note["text"], result["data"]) == ("By the way.", {"answer": 42})
    assert command(give, monkeypatch, "text") == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("It is 42.\n", "By the way.\n")


def test_outcomes_of_checks_are_data_for_people_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(output: Output) -> None:
        output.tell(Checked("w1", "swap", ("swap is on",)))

    command(check, monkeypatch, "text")
    assert capsys.readouterr().out == f"FAILED  {'w1':<20}swap\n        swap is on\n"


def test_a_reader_that_goes_away_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        assert command(worked, monkeypatch) == 8
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    assert kinds(log_of(state).read_text())[-2:] == ["recap", "ended"]


def planted() -> Mapping[str, str]:
    """Give secrets in every form in which a text might hold them."""
    key = pki.new_key("ECDSA-P256")
    pem = pki.key_pem(key).decode()
    return {
        "a whole key": pem,
        "a line of a key": pem.splitlines()[1],
        "a key that is quoted": pem.replace("\n", "\\n"),
        "a key in a kubeconfig": base64.b64encode(pem.encode()).decode(),
        "a token": TOKEN,
        "a token's secret": TOKEN.partition(".")[2],
        "a token's secret in a Secret": base64.b64encode(TOKEN.partition(".")[2].encode()).decode(),
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_planted_secrets_reach_neither_terminal_nor_lines_nor_log(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    secrets = planted()

    def leak(output: Output) -> None:
        output.secrets.learn(secrets["a whole key"].encode(), f"x {TOKEN}\n".encode())
        with output.run("join", inventory(), HOSTS) as listener:
            for text in secrets.values():
                output.note(text)
                listener(StepDone("w1", "p", text, "changed", text))
                listener(PhaseDone("w1", "p", 1, 1, 1))
                listener(Waiting("w1", "p", text, 100, 200))
                listener(Checked("w1", "c", (text,)))
                output.warn(Problem("w1", "c", "warning", text, text))
            every = "\n".join(secrets.values())
            failed = StepFailed("w1", "p", every, every)
            listener(HostFailed("w1", "p", failed))
            raise HostsFailed({"w1": failed, "w2": BootstrapError(every)})

    assert command(leak, monkeypatch, form) != 0
    told = capsys.readouterr()
    log = log_of(state).read_text()
    bodies = secrets["a whole key"].splitlines()[1:-1]
    for text in (told.out, told.err, log):
        for what, secret in secrets.items():
            assert secret not in text, what
        assert not [body for body in bodies if body in text]
    assert MASK in log


def test_a_secret_that_was_asked_for_is_given_on_stdout_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    def ask(output: Output) -> None:
        output.secrets.learn(TOKEN.encode())
        with output.run("join", inventory(), HOSTS):
            pass
        output.result({"token": TOKEN}, TOKEN)

    command(ask, monkeypatch)
    assert {"token": TOKEN} in [line.get("data") for line in lines(capsys.readouterr().out)]
    assert TOKEN not in log_of(state).read_text()


def test_hosts_that_were_checked_have_a_state_and_no_table_follows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    def check(output: Output) -> None:
        with output.run("verify", inventory(), HOSTS) as listener:
            listener(Checked("w1", "swap", ("swap is on",)))
            listener(Checked("w1", "clock"))
            listener(Checked("w2", "swap"))

    command(check, monkeypatch, "text")
    assert "STATE" not in capsys.readouterr().err
    recap = lines(log_of(state).read_text())[-2]
    assert [host["state"] for host in recap["hosts"]] == ["not-begun", "failed", "ok"]


def test_a_host_that_failed_is_in_the_recap_of_others_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(output: Output) -> None:
        with output.run("join", inventory(), ["w1", "w2"]):
            raise HostsFailed({"cp1": Unreachable("cp1", "no answer")})

    assert command(fail, monkeypatch) == 5
    recap = lines(capsys.readouterr().out)[-2]
    assert {host["host"]: host["state"] for host in recap["hosts"]} == {
        "w1": "not-begun",
        "w2": "not-begun",
        "cp1": "unreachable",
    }


def test_a_disk_that_is_full_of_lines_does_not_stop_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    done: list[str] = []

    def work(output: Output) -> None:
        with output.run("join", inventory(), HOSTS) as listener:
            listener(PhaseStarted("w1", "kubelet-start"))
            done.append("to its end")

    with (
        contextlib.suppress(OSError),  # closing it
        Path("/dev/full").open("w") as full,
        monkeypatch.context() as patch,
    ):
        patch.setattr("sys.stdout", full)
        assert command(work, monkeypatch) == 1
    assert done == ["to its end"]
    assert "Warning: no more lines are written" in capsys.readouterr().err
    assert kinds(log_of(state).read_text())[-2:] == ["recap", "ended"]
