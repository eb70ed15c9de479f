"""`kubestrap status --html`, looked at with a real browser."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootstrap import cli, jsonlines
from bootstrap.errors import StepFailed
from bootstrap.events import Ended, Event, HostFailed, PhaseDone, PhaseStarted, Started
from bootstrap.status import page, runs
from bootstrap.status.cluster import ClusterStatus, HostStatus
from tests.browser import Browser, browsing
from tests.status.machines import Machines

BEGAN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
RUN: tuple[tuple[float, Event], ...] = (
    (0, Started("init", "kubernetes", ("cp1", "w1"), "0.1.0")),
    (1, PhaseStarted("cp1", "prepare")),
    (1, PhaseStarted("w1", "prepare")),
    (11, PhaseDone("cp1", "prepare", 10.0, changed=4, steps=5)),
    (11, PhaseStarted("cp1", "certs")),
    (21, PhaseDone("cp1", "certs", 10.0, changed=0, steps=9)),
    (31, HostFailed("w1", "prepare", StepFailed("w1", "prepare", "x", "it is broken"))),
    (40, Ended(8, 40.0)),
)
# The texts of pictures that stick out of them, or cover each other.
CROWDED = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent);
  const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
  const outside = boxes.filter(([, box]) =>
      box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1);
  const covers = (a, b) =>
      a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const covered = boxes.flatMap(([text, box], number) =>
      boxes.slice(number + 1).filter(([, other]) => covers(box, other)).map(([other]) => [text, other]));
  return [...outside.map(([text]) => text), ...covered];
})"""


def lines() -> list[str]:
    return [jsonlines.line(event, BEGAN + datetime.timedelta(seconds=at), str) for at, event in RUN]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    folder = tmp_path / "browser"
    folder.mkdir()
    with browsing(folder) as opened:
        yield opened


def logged(folder: Path) -> None:
    place = folder / "state" / "kubestrap" / "logs" / "kubernetes"
    place.mkdir(parents=True)
    (place / "20260102T030405.000000Z-init.jsonl").write_text("\n".join(lines()) + "\n")


def test_people_see_the_cluster_its_certificates_and_the_last_run(
    machines: Machines, browser: Browser, tmp_path: Path
) -> None:
    machines.lost.add("cp2")
    logged(tmp_path)
    assert cli.run(["status", "--html", "page.html"]) == 8
    file = tmp_path / "page.html"
    assert file.stat().st_mode & 0o777 == 0o600
    for width, dark in ((1280, False), (1000, True)):
        browser.open(file, width=width, dark=dark)
        assert browser.ask("document.documentElement.scrollWidth - innerWidth") <= 0
        assert browser.ask(CROWDED) == []
        troubles = [
            event for event in browser.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        assert troubles == []
        asked = [event["params"]["request"]["url"] for event in browser.events if "request" in event["params"]]
        assert asked == [file.as_uri()]
        assert browser.picture().startswith(b"\x89PNG")
    cards = browser.ask(
        "[...document.querySelectorAll('#cluster .card')].map(c => [c.textContent, c.className.baseVal])"
    )
    states = {text.split("\n")[2].strip(): state for text, state in cards[1:]}
    assert states == {"cp1": "card good", "cp2": "card bad", "w1": "card good"}
    assert "cp2: no route to it" in browser.ask("document.querySelector('#problems').innerText")
    bars = browser.ask("""[...document.querySelectorAll('#gantt .bar')].map(g => [g.querySelector('title').textContent,
        g.className.baseVal, g.querySelector('rect').getBoundingClientRect().width])""")
    titles = {title: state for title, state, _ in bars}
    assert titles == {
        "cp1: prepare: changed, 10.0 s": "bar changed",
        "cp1: certs: same, 10.0 s": "bar same",
        "w1: prepare: failed, 30.0 s": "bar failed",
    }
    widths = {title.partition(",")[0]: width for title, _, width in bars}
    assert widths["w1: prepare: failed"] == pytest.approx(3 * widths["cp1: prepare: changed"], rel=0.02)
    ends = browser.ask("""[...document.querySelectorAll('#certificates .bar')]
        .map(g => [g.querySelector('text').textContent, g.querySelector('rect').getBoundingClientRect().right])""")
    right = dict(ends)
    assert right["ca"] > right["apiserver"]
    assert "exit code 8" in browser.ask("document.querySelector('#run').innerText")


def test_nothing_that_machines_say_becomes_markup(browser: Browser, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\">"
    host = HostStatus("cp1", ("control-plane",), "192.0.2.1", reached=True, node="Ready", kubelet=evil)
    seen = ClusterStatus("kubernetes", "1.37.2", "x:6443", "2026-01-02T03:04:05Z", (host,), (), (), (), (evil,))
    run = runs.read([line.replace("prepare", json.dumps(evil)[1:-1]) for line in lines()])
    file = tmp_path / "page.html"
    file.write_text(page.render(seen, run))
    browser.open(file, width=1000)
    assert browser.ask("document.images.length") == 0
    assert browser.ask("document.title") == "kubernetes: 1 to look after"
    assert evil in browser.ask("document.body.textContent")


def test_a_hundred_machines_and_long_names_fit(browser: Browser, tmp_path: Path) -> None:
    host = HostStatus("", ("worker",), "192.0.2.1", reached=True, node="Ready", kubelet="1.37.2")
    hosts = tuple(replace(host, name=f"machine-with-a-long-name-{number}.example.org") for number in range(100))
    seen = ClusterStatus("kubernetes", "1.37.2", "x:6443", "2026-01-02T03:04:05Z", hosts, (), (), (), ())
    file = tmp_path / "page.html"
    file.write_text(page.render(seen, None))
    browser.open(file, width=1000)
    assert browser.ask(CROWDED) == []
    names = browser.ask("[...document.querySelectorAll('#cluster .card .name')].map(text => text.textContent)")
    assert len(set(names)) == 101
    assert browser.ask("document.querySelector('#well').innerText") == "All is well."


def test_the_log_of_a_killed_run_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    place = tmp_path / "state" / "kubestrap" / "logs" / "kubernetes"
    place.mkdir(parents=True)
    (place / "20260102T030405.000000Z-init.jsonl").write_text("\n".join(lines()[:4])[:-20])
    (place / "20260102T030406.000000Z-verify.jsonl").write_text(lines()[0] + "\n")
    found = runs.last("kubernetes", {"XDG_STATE_HOME": str(tmp_path / "state")})
    assert found
    assert found.exit_code is None
    assert {(span.host, span.state) for span in found.spans} == {("cp1", "unfinished"), ("w1", "unfinished")}


def test_what_is_expected_comes_from_a_run_of_the_same_command_that_ended_well(tmp_path: Path) -> None:
    logged(tmp_path)  # it failed
    place = {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert runs.last_good("init", "kubernetes", place) is None
    good = [line.replace('"exitCode":8', '"exitCode":0') for line in lines()]
    folder = tmp_path / "state" / "kubestrap" / "logs" / "kubernetes"
    (folder / "20260102T020000.000000Z-init.jsonl").write_text("\n".join(good))
    found = runs.last_good("init", "kubernetes", place)
    assert found
    assert (found.exit_code, found.seconds) == (0, 40.0)
    assert runs.last_good("join", "kubernetes", place) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"event": 1, "time": "2026-01-02T03:04:05Z"}', '{"time": null}'])
def test_a_log_without_a_run_gives_none(damage: str, tmp_path: Path) -> None:
    assert runs.read([damage]) is None
    assert runs.last("kubernetes", {"XDG_STATE_HOME": str(tmp_path)}) is None


def test_a_page_that_cannot_be_written_is_told_in_one_line(
    machines: Machines, capsys: pytest.CaptureFixture[Any]
) -> None:
    Path("folder").mkdir()
    assert cli.run(["status", "--html", "folder"]) == 1
    told = capsys.readouterr().err
    assert "Is a directory" in told
    assert "Traceback" not in told
