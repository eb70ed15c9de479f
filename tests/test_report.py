from __future__ import annotations

import io

import pytest

from bootstrap.errors import StepFailed, Unreachable
from bootstrap.events import Event, HostFailed, HostState, PhaseDone, PhaseStarted, Recap, Sending, StepDone, Waiting
from bootstrap.report import LARGE, Report, duration, recap, size, wants_colour


def told(*events: Event, colour: bool = False) -> list[str]:
    lines: list[str] = []
    report = Report(lines.append, hosts=("master1", "w1"), colour=colour)
    for event in events:
        report(event)
    return lines


def test_a_phase_that_changed_something_lists_what() -> None:
    assert told(
        PhaseStarted("w1", "prepare/runtime"),
        StepDone("w1", "prepare/runtime", "/etc/containerd/config.toml", "changed", "created"),
        StepDone("w1", "prepare/runtime", "/usr/local/bin/runc", "same"),
        StepDone("w1", "prepare/runtime", "containerd.service", "changed"),
        PhaseDone("w1", "prepare/runtime", 2.13, changed=2, steps=3),
    ) == [
        "w1       prepare/runtime             changed 2 of 3  2.1 s",
        "    /etc/containerd/config.toml: created",
        "    containerd.service",
    ]


def test_a_phase_that_changed_nothing_is_one_quiet_line() -> None:
    assert told(
        StepDone("master1", "certs/ca", "/etc/kubernetes/pki/ca.crt", "same"),
        PhaseDone("master1", "certs/ca", 0.04, changed=0, steps=1),
    ) == ["master1  certs/ca                    same   0.0 s"]


def test_changes_of_two_hosts_are_not_mixed_up() -> None:
    lines = told(
        StepDone("w1", "kubelet-start", "a", "changed"),
        StepDone("master1", "kubelet-start", "b", "changed"),
        PhaseDone("w1", "kubelet-start", 1, changed=1, steps=1),
        PhaseDone("master1", "kubelet-start", 1, changed=1, steps=1),
    )
    assert [line.strip() for line in lines[1::2]] == ["a", "b"]


def test_a_short_wait_is_not_told_and_a_long_one_less_and_less_often() -> None:
    waits = [Waiting("w1", "kubelet-start", "the Node to be Ready", float(elapsed), 240) for elapsed in range(45)]
    assert [line.partition("waiting ")[2] for line in told(*waits)] == [
        "for the Node to be Ready: 5.0 s of 4 min 00 s, 3 min 55 s left",
        "for the Node to be Ready: 10.0 s of 4 min 00 s, 3 min 50 s left",
        "for the Node to be Ready: 20.0 s of 4 min 00 s, 3 min 40 s left",
        "for the Node to be Ready: 40.0 s of 4 min 00 s, 3 min 20 s left",
    ]


def test_a_second_wait_of_the_same_name_is_told_anew() -> None:
    waits = [Waiting("w1", "p", "it", elapsed, 60) for elapsed in (6.0, 0.1, 6.0)]
    assert len(told(*waits)) == 2


def test_sending_much_is_told_at_each_quarter_and_little_not_at_all() -> None:
    total = 4 * LARGE
    much = [Sending("w1", "prepare/images", total * part // 16, total) for part in range(17)]
    assert [line.partition("sending ")[2] for line in told(*much)] == [
        "32.0 MiB of 128.0 MiB",
        "64.0 MiB of 128.0 MiB",
        "96.0 MiB of 128.0 MiB",
        "128.0 MiB of 128.0 MiB",
    ]
    assert told(Sending("w1", "prepare/images", 10, 10)) == []


def test_a_failure_is_told_after_what_was_changed_before_it() -> None:
    error = StepFailed("w1", "kubelet-start", "kubelet.service", "it did not start\nlast line of its log")
    assert told(StepDone("w1", "kubelet-start", "/x", "changed"), HostFailed("w1", "kubelet-start", error)) == [
        "    /x",
        "w1       kubelet-start               failed phase kubelet-start: kubelet.service: it did not start",
        "    last line of its log",
    ]


def test_a_host_can_fail_before_any_phase() -> None:
    (line,) = told(HostFailed("w1", "", Unreachable("w1", "no answer")))
    assert line.split() == ["w1", "failed", "no", "answer"]


def test_an_error_without_a_message_is_told_by_its_name() -> None:
    (line,) = told(HostFailed("w1", "", ValueError()))
    assert line.endswith("failed ValueError")


def test_the_recap_says_what_became_of_each_host() -> None:
    states = [HostState("master1", "changed", 41, 9, 61.2), HostState("w1", "not-begun")]
    phases = {"etcd": 1.5, "prepare/images": 20.0, "certs/ca": 0.1, "wait-control-plane": 9.0}
    assert recap(states, phases, 75.4).splitlines() == [
        "HOST     STATE        CHANGED     SAME  TIME",
        "master1  changed           41        9  1 min 01 s",
        "w1       not begun          0        0  0.0 s",
        "1 min 15 s in all; longest: prepare/images 20.0 s, wait-control-plane 9.0 s, etcd 1.5 s",
    ]


def test_the_recap_of_a_run_on_machines_is_told_and_that_of_none_is_not() -> None:
    state = HostState("w1", "changed", 1, 1, 2.0)
    assert told(Recap((state,), 3.0)) == []
    assert told(PhaseDone("w1", "etcd", 2.0, changed=1, steps=2), Recap((state,), 3.0))[1:] == [
        "",
        "\n".join(
            [
                "HOST  STATE        CHANGED     SAME  TIME",
                "w1    changed            1        1  2.0 s",
                "3.0 s in all; longest: etcd 2.0 s",
            ]
        ),
    ]


def test_colour_changes_nothing_but_the_colour() -> None:
    event = PhaseDone("w1", "certs/ca", 0.04, changed=1, steps=1)
    (plain,), (coloured,) = told(event), told(event, colour=True)
    assert "\x1b[" in coloured
    assert coloured.replace("\x1b[33m", "").replace("\x1b[0m", "") == plain


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (119.6, "2 min 00 s"), (3725, "62 min 05 s")],
)
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert size(count) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "wanted"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (io.StringIO(), {"CLICOLOR_FORCE": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "0", "TERM": "xterm"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (None, {"TERM": "xterm"}, False),
    ],
)
def test_colour_is_for_terminals_and_who_asks_for_it(
    stream: io.StringIO | None, environment: dict[str, str], wanted: bool
) -> None:
    assert wants_colour(stream, environment) is wanted
