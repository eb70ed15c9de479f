"""Batches of steps, run by real shells as root, with /var/lib bound to a folder of the test."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootstrap import batch
from bootstrap.steps import (
    Absent,
    Binary,
    Command,
    Directory,
    Fallback,
    File,
    Hook,
    HostStep,
    Link,
    Unit,
    UnitOff,
    Wait,
    receipt,
)
from bootstrap.transport.base import Result
from tests.isolated import IsolatedHost


@dataclass(frozen=True)
class Machine:
    """This machine with a /var/lib of its own."""

    host: IsolatedHost
    state: Path

    def run(self, command: str, stdin: bytes) -> Result:
        return self.host.run(command, stdin=stdin, seconds=120)

    def do(self, *steps: HostStep) -> list[batch.Answer]:
        ran = self.run(batch.COMMAND, batch.compile_steps(steps))
        answers = [batch.parse(line) for line in ran.stdout.splitlines()]
        assert ran.stderr == b""
        assert (ran.status == 0) == (not any(isinstance(answer, batch.Failed) for answer in answers))
        return answers

    def needs(self, *steps: HostStep) -> set[str]:
        asking = batch.compile_needs(steps)
        assert asking
        ran = self.run(batch.COMMAND, asking)
        return {
            answer.digest for line in ran.stdout.splitlines() if isinstance(answer := batch.parse(line), batch.Needed)
        }

    def receive(self, *blobs: bytes) -> Result:
        named = {hashlib.sha256(blob).hexdigest(): blob for blob in blobs}
        folder = self.state / "sent"
        folder.mkdir(exist_ok=True)
        for name, blob in named.items():
            (folder / name).write_bytes(blob)
        sizes = [(name, len(blob)) for name, blob in named.items()]
        return self.run(batch.RECEIVE, b"".join(batch.stream(sizes, lambda name: (folder / name).open("rb"))))


@pytest.fixture(params=["dash", "bash", "busybox"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    state = tmp_path / "var-lib"
    state.mkdir()
    return Machine(IsolatedHost(state, shell=request.param), state)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def _binary(path: Path, blob: bytes) -> Binary:
    return Binary(str(path), hashlib.sha256(blob).hexdigest(), len(blob))


def _hows(answers: Sequence[batch.Answer]) -> list[str | None]:
    return [answer.how if isinstance(answer, batch.Changed) else None for answer in answers]


def test_a_file_is_written_with_its_mode_and_the_second_time_left_alone(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "it's $HOME"
    step = File(str(path), b"\x00one\n'two'", mode=0o640)
    assert machine.do(step) == [batch.Changed(0, "created")]
    assert path.read_bytes() == b"\x00one\n'two'"
    assert _mode(path) == 0o640
    assert _mode(path.parent) == 0o755
    before = path.stat()
    assert machine.do(step) == [batch.Same(0)]
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_hook_is_run_each_time_with_its_script_and_environment(machine: Machine) -> None:
    script = b'echo "$1 $NAME"; cat; pwd >&2'
    step = Hook("h", ("sh", "-c", 'sh "$2" "$1"', "x", "it's"), (("NAME", "a b"),), 20, script)
    assert machine.do(step) == [batch.Ran(0, "it's a b\n/")]
    assert machine.do(step) == [batch.Ran(0, "it's a b\n/")]


def test_a_hook_that_fails_ends_the_batch_with_its_last_words(machine: Machine, tmp_path: Path) -> None:
    failing = Hook("h", ("sh", "-c", "echo why; exit 7"), (), 20)
    assert machine.do(failing, File(str(tmp_path / "x"), b"")) == [batch.Failed(0, "step", "it exited with 7\nwhy")]
    hanging = Hook("h", ("sleep", "60"), (), 0.5)
    assert machine.do(hanging) == [batch.Failed(0, "time", "it did not end within 0.5 s")]


def test_an_edited_file_and_an_edited_mode_are_mended(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "file"
    step = File(str(path), b"right", mode=0o600)
    machine.do(step)
    path.write_bytes(b"wrong")
    assert machine.do(step) == [batch.Changed(0, "updated")]
    path.chmod(0o666)
    assert machine.do(step) == [batch.Changed(0, "mode and owner mended")]
    os.chown(path, 1, 1)
    assert machine.do(step) == [batch.Changed(0, "mode and owner mended")]
    assert (path.read_bytes(), _mode(path), path.stat().st_uid) == (b"right", 0o600, 0)


def test_a_link_where_a_file_must_stand_is_replaced_and_its_target_left_alone(machine: Machine, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    path = tmp_path / "file"
    path.symlink_to(target)
    assert machine.do(File(str(path), b"theirs")) == [batch.Changed(0, "updated")]
    assert not path.is_symlink()
    assert target.read_bytes() == b"theirs"


def test_a_directory_where_a_file_must_stand_fails_and_ends_the_batch(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    answers = machine.do(File(str(tmp_path / "file"), b""), File(str(tmp_path / "other"), b""))
    assert [type(answer) for answer in answers] == [batch.Failed]
    assert "is a directory" in answers[0].text  # type: ignore[union-attr]
    assert not (tmp_path / "other").exists()


def test_a_file_is_left_alone_where_something_stands_at_unless(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other"
    step = File(str(tmp_path / "file"), b"x", unless=str(other))
    other.symlink_to("nowhere")
    assert machine.do(step) == [batch.Same(0)]
    other.unlink()
    assert machine.do(step) == [batch.Changed(0, "created")]


def test_f33_nothing_but_the_manifest_ever_stands_in_a_manifest_folder(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    watcher = tmp_path / "watcher"
    watcher.write_text(f"while :; do ls -A {folder}; done\n")
    with subprocess.Popen(["sh", str(watcher)], stdout=subprocess.PIPE) as watching:
        for number in range(10):
            machine.do(File(str(folder / "pod.yaml"), str(number).encode() * 100_000, mode=0o600))
        watching.kill()
        assert watching.stdout
        assert set(watching.stdout.read().split()) <= {b"pod.yaml"}


def test_directories_links_and_absent_files(machine: Machine, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.write_text("")
    steps = (
        Directory(str(tmp_path / "a" / "b"), mode=0o700),
        Link(str(tmp_path / "a" / "link"), "b"),
        Absent(str(gone)),
    )
    assert _hows(machine.do(*steps)) == ["created", "linked", "removed"]
    assert (_mode(tmp_path / "a" / "b"), _mode(tmp_path / "a")) == (0o700, 0o755)
    assert _hows(machine.do(*steps)) == [None, None, None]
    (tmp_path / "a" / "b").chmod(0o777)
    assert _hows(machine.do(*steps)) == ["mode and owner mended", None, None]


def test_a_command_runs_only_where_it_is_needed(machine: Machine, tmp_path: Path) -> None:
    made = tmp_path / "made"
    step = Command("make it", f"cat > {made}", f"test -s {made}", stdin=b"secret")
    assert machine.do(step) == [batch.Changed(0, "done")]
    assert made.read_bytes() == b"secret"
    assert machine.do(step) == [batch.Same(0)]


@pytest.mark.parametrize(
    ("run", "kind", "text"),
    [
        ("echo no such thing >&2; exit 7", "step", "exited with 7\nno such thing"),
        ("true", "step", "no effect"),
        ("exec sleep 60", "time", "did not end within 0.5 s"),
    ],
)
def test_a_command_that_fails_says_why(machine: Machine, run: str, kind: str, text: str) -> None:
    (answer,) = machine.do(Command("it", run, "false", seconds=0.5 if kind == "time" else 60))
    assert isinstance(answer, batch.Failed)
    assert answer.kind == kind
    assert text in answer.text


def test_a_wait_ends_when_it_comes_true(machine: Machine, tmp_path: Path) -> None:
    come = tmp_path / "come"
    until = f"echo x >> {tmp_path}/asked; test $(wc -l < {tmp_path}/asked) -ge 3"
    assert machine.do(Wait("it", until, seconds=60), File(str(come), b"")) == [
        batch.Same(0),
        batch.Changed(1, "created"),
    ]


def test_a_wait_in_vain_tells_what_it_last_saw_and_explains(machine: Machine) -> None:
    answers = machine.do(Wait("it", "echo not yet; exit 1", seconds=1.5, explain="echo because of this"))
    assert isinstance(answers[-1], batch.Failed)
    assert answers[-1].kind == "time"
    assert answers[-1].text == "not yet\nbecause of this"


def test_a_wait_that_goes_on_tells_for_how_long(machine: Machine, tmp_path: Path) -> None:
    until = f"sleep 1.2; echo x >> {tmp_path}/asked; test $(wc -l < {tmp_path}/asked) -ge 2"
    going_on, done = machine.do(Wait("it", until, seconds=100))
    assert isinstance(going_on, batch.StillWaiting)
    assert going_on.elapsed >= 1
    assert done == batch.Same(0)


def test_a_wait_whose_outcome_is_certain_fails_at_once(machine: Machine) -> None:
    (answer,) = machine.do(Wait("it", "echo crashed; exit 2", seconds=600))
    assert isinstance(answer, batch.Failed)
    assert (answer.kind, answer.text) == ("state", "crashed")


@dataclass(frozen=True)
class Service:
    """Two files in a manifest folder that are well as long as neither says bad, or while `ill` is not there."""

    folder: Path

    @property
    def fallback(self) -> Fallback:
        paths = tuple(str(self.folder / "manifests" / name) for name in ("a", "b"))
        well = f"test ! -e {self.folder}/ill && ! grep -l bad {' '.join(paths)} /dev/null"
        return Fallback(paths, well, 0.3, Unit("none.service"))

    def steps(self, a: str, b: str, *, wait: bool = True) -> list[HostStep]:
        both = zip(self.fallback.paths, (a, b), strict=True)
        steps: list[HostStep] = [File(path, text.encode(), 0o600, fallback=self.fallback) for path, text in both]
        well = Wait("it", self.fallback.well, 0.3, fallback=self.fallback, last=True)
        return [*steps, well] if wait else steps

    def holds(self) -> tuple[str, ...]:
        return tuple(Path(path).read_text() for path in self.fallback.paths)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def _restored(answers: Sequence[batch.Answer]) -> batch.Restored:
    (answer,) = (answer for answer in answers if isinstance(answer, batch.Restored))
    return answer


def test_f5_the_former_files_come_back_where_the_new_ones_do_not_get_well(machine: Machine, service: Service) -> None:
    machine.do(*service.steps("a1", "b1"))
    answers = machine.do(*service.steps("a2", "b bad"))
    assert _restored(answers) == batch.Restored(2, service.fallback.paths)
    assert isinstance(answers[-1], batch.Failed)
    assert "manifests/b" in answers[-1].text
    assert service.holds() == ("a1", "b1")
    assert {_mode(Path(path)) for path in service.fallback.paths} == {0o600}
    assert {path.name for path in (service.folder / "manifests").iterdir()} == {"a", "b"}
    assert _hows(machine.do(*service.steps("a2", "b2"))) == ["updated", "updated", None]


def test_what_was_never_well_is_no_state_to_go_back_to(machine: Machine, service: Service) -> None:
    machine.do(*service.steps("a bad", "b1"))
    answers = machine.do(*service.steps("a bad too", "b1"))
    assert [type(answer) for answer in answers] == [batch.Changed, batch.Same, batch.Failed]
    assert service.holds() == ("a bad too", "b1")


def test_a_run_killed_between_a_change_and_its_wait_does_not_hide_what_was_well(
    machine: Machine, service: Service
) -> None:
    machine.do(*service.steps("a1", "b1"))
    machine.do(*service.steps("a bad", "b1", wait=False))
    answers = machine.do(*service.steps("a bad", "b bad"))
    assert _restored(answers).files == service.fallback.paths
    assert service.holds() == ("a1", "b1")


def test_a_change_that_got_well_is_what_the_next_one_goes_back_to(machine: Machine, service: Service) -> None:
    for text in ("a1", "a2"):
        machine.do(*service.steps(text, "b1"))
    assert not (machine.state / "kubestrap" / "former").exists()
    (service.folder / "ill").touch()
    answers = machine.do(*service.steps("a3", "b1"))
    assert not any(isinstance(answer, batch.Restored) for answer in answers)
    (service.folder / "ill").unlink()
    machine.do(*service.steps("a bad", "b1"))
    assert service.holds() == ("a3", "b1")


def test_where_the_former_files_are_not_well_either_it_is_told(machine: Machine, service: Service) -> None:
    machine.do(*service.steps("a1", "b1"))
    machine.do(*service.steps("a bad", "b1", wait=False))
    (service.folder / "ill").touch()
    answers = machine.do(*service.steps("a bad", "b1"))
    assert _restored(answers) == batch.Restored(2, service.fallback.paths[:1], "it does not get well")
    assert service.holds() == ("a1", "b1")
    (service.folder / "ill").unlink()
    assert _hows(machine.do(*service.steps("a1", "b1"))) == [None, None, None]


def test_what_was_kept_is_for_root_alone(machine: Machine, service: Service) -> None:
    machine.do(*service.steps("a1", "b1"))
    machine.do(*service.steps("a2", "b1", wait=False))
    assert _mode(machine.state / "kubestrap" / "former") == 0o600


def test_a_binary_is_asked_for_sent_and_placed_once(machine: Machine, tmp_path: Path) -> None:
    blob = b"#!/bin/sh\n" * 70_000
    step = _binary(tmp_path / "bin" / "tool", blob)
    assert machine.needs(step) == {step.digest}
    assert machine.receive(blob).status == 0
    assert machine.needs(step) == set()
    assert machine.do(step) == [batch.Changed(0, "created")]
    assert (tmp_path / "bin" / "tool").read_bytes() == blob
    assert _mode(tmp_path / "bin" / "tool") == 0o755
    assert machine.needs(step) == set()
    assert machine.do(step) == [batch.Same(0)]
    assert not any((machine.state / "kubestrap" / "blobs" / "sha256").iterdir())


def test_an_altered_binary_is_asked_for_again(machine: Machine, tmp_path: Path) -> None:
    blob = b"x" * 1000
    step = _binary(tmp_path / "tool", blob)
    machine.receive(blob)
    machine.do(step)
    os.utime(tmp_path / "tool", ns=(5, 5))
    assert machine.do(step) == [batch.Same(0)], "the same bytes with another time are read once, and remembered"
    (tmp_path / "tool").write_bytes(b"y" * 1000)
    assert machine.needs(step) == {step.digest}
    (tmp_path / "tool").write_bytes(b"x" * 10)
    assert machine.needs(step) == {step.digest}


def test_f30_a_blob_that_arrives_altered_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"altered")
    stream = batch.stream([("0" * 64, 7)], lambda _: (tmp_path / "blob").open("rb"))
    ran = machine.run(batch.RECEIVE, b"".join(stream))
    assert ran.status != 0
    assert b"arrived altered" in ran.stderr
    assert not any((machine.state / "kubestrap" / "blobs" / "sha256").iterdir())


def test_f30_a_blob_that_is_cut_short_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"z" * 50_000)
    whole = b"".join(
        batch.stream([(hashlib.sha256(b"z" * 50_000).hexdigest(), 50_000)], lambda _: (tmp_path / "blob").open("rb"))
    )
    assert machine.run(batch.RECEIVE, whole[:20_000]).status != 0
    assert not [path for path in (machine.state / "kubestrap" / "blobs" / "sha256").iterdir() if path.suffix != ".part"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def grow(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1m", folder], check=True)


def test_f11_a_file_for_which_there_is_no_room_leaves_the_old_one_and_names_the_mount(
    machine: Machine, small: Path
) -> None:
    (small / "file").write_bytes(b"old")
    step = File(str(small / "file"), b"x" * 100_000)
    (failed,) = machine.do(step)
    assert isinstance(failed, batch.Failed)
    assert f"{small}/file cannot be written: " in failed.text
    assert f"No space is left on {small} (0 of 0 MiB are free)" in failed.text
    assert {path.name: path.read_bytes() for path in small.iterdir()} == {"file": b"old"}
    grow(small)
    assert machine.do(step) == [batch.Changed(0, "updated")]
    assert (small / "file").read_bytes() == step.data


def test_f11_a_blob_for_which_there_is_no_room_leaves_nothing_and_names_the_mount(
    machine: Machine, small: Path, tmp_path: Path
) -> None:
    blobs = machine.state / "kubestrap" / "blobs"
    blobs.parent.mkdir()
    blobs.symlink_to(small)
    blob = b"x" * 100_000
    ran = machine.receive(blob)
    assert ran.status != 0
    assert f"0 MiB are left on {small} for /var/lib/kubestrap/blobs/sha256" in ran.stderr.decode()
    assert list((small / "sha256").iterdir()) == []
    grow(small)
    assert machine.receive(blob).status == 0
    assert machine.do(_binary(tmp_path / "tool", blob)) == [batch.Changed(0, "created")]


def test_the_receipt_lists_what_is_written_before_it_is_written(machine: Machine, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    machine.do(Directory(str(tmp_path / "made")))
    machine.do(File(str(blocked), b""), File(str(tmp_path / "never"), b""))
    lines = (machine.state / "kubestrap" / "receipt").read_text().splitlines()
    assert lines == sorted([f"directory\t{tmp_path}/made", f"file\t{blocked}", f"file\t{tmp_path}/never"])
    assert _mode(machine.state / "kubestrap" / "receipt") == 0o600


def test_what_leaves_nothing_is_not_on_the_receipt() -> None:
    assert receipt([Absent("/a"), UnitOff("b"), Wait("c", "true", 1), Command("d", "true", "true")]) == []


def test_a_batch_leaves_no_folder_of_its_own(machine: Machine, tmp_path: Path) -> None:
    machine.do(File(str(tmp_path / "x"), b""))
    machine.do(Wait("it", "exit 2", seconds=1))
    assert not list((machine.state / ".run").iterdir())


@pytest.mark.parametrize("line", [b"", b"same", b"changed\t1", b"failed\t1\tx\t", b"hello"])
def test_what_is_no_answer_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer|invalid literal"):
        batch.parse(line)
