"""What a look says is what a run then does, and the look changes nothing; for real, on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase as Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import batch, differences
from bootstrap.api import Api
from bootstrap.errors import ApiUnreachable, HostsFailed, StepFailed
from bootstrap.events import Depends, Drift, Event, HostFailed, StepDone
from bootstrap.execute import Means, execute
from bootstrap.look import look
from bootstrap.plan import Phase, build
from bootstrap.site import Contents, Facts, Node, Site
from bootstrap.spec import Cluster, Host
from bootstrap.steps import (
    Absent,
    ApiObject,
    ApiWait,
    Binary,
    Command,
    Directory,
    File,
    HostStep,
    Link,
    NodeMarks,
    Step,
    Wait,
)
from tests.apiserver import Answer, ApiServer, Request, files, merge, pki, serving
from tests.isolated import IsolatedHost

BLOB = b"blob" * 1000
MAP = "/api/v1/namespaces/kube-public/configmaps/a"


def _no_api(_: str = "") -> Api:
    raise AssertionError("no step here needs the API server")


@dataclass
class Machine:
    """One host, and what looks and runs told of it."""

    folder: Path
    host: IsolatedHost
    facts: Facts = field(default_factory=Facts)

    def told(
        self,
        way: object,
        *phases: tuple[str, Sequence[Step]],
        events: list[Event] | None = None,
        api: Callable[[], Api] = _no_api,
    ) -> list[Event]:
        node = Node(Host(name="one", address="one", roles=("control-plane",)), "192.0.2.1", self.facts)
        site = Site(Cluster(), (node,), Contents("1.37.2", "linux/amd64", (), ()))
        plan = build([_phase(name, steps) for name, steps in phases], site, nodes=site.nodes)
        events = [] if events is None else events
        means = Means({"one": self.host}, lambda _: api(), lambda _: io.BytesIO(BLOB))
        (execute if way is execute else look)(plan, means, events.append)
        return events

    def look(self, *steps: Step) -> list[Event]:
        return self.told(look, ("phase", steps))

    def run(self, *steps: Step) -> list[Event]:
        return self.told(execute, ("phase", steps))


def _phase(name: str, steps: Sequence[Step]) -> Phase:
    def make(_: Site, __: Node) -> Iterator[Step]:
        yield from steps

    return Phase(name, "all", make)


def _machine(folder: Path) -> Machine:
    (folder / "var-lib").mkdir()
    (folder / "root").mkdir()
    return Machine(folder / "root", IsolatedHost(folder / "var-lib", "one"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return _machine(tmp_path)


def _tree(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if ".run" in path.parts:  # the machine's /run, in memory
            continue
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path)] = (stat.filemode(status.st_mode), status.st_uid, status.st_mtime_ns, content)
    return found


def _outcomes(events: Sequence[Event]) -> list[str]:
    """Give each step's outcome, in order: how it changes, or "" where it does not."""
    found: list[str] = []
    for event in events:
        if isinstance(event, StepDone | Drift):
            found.append(event.what)
        elif isinstance(event, Depends):
            found.append("?")
    return found


def _differences(events: Sequence[Event]) -> list[str]:
    return [event.difference for event in events if isinstance(event, Drift)]


NAMES = ("a", "b", "c/d", "c/e", "c/d/f")
_CONTENTS = st.sampled_from([b"", b"one\n", b"two\n", b"\x00\xff"])
_MODES = st.sampled_from([0o600, 0o644, 0o755])


def _steps(names: Sequence[str]) -> st.SearchStrategy[HostStep]:
    path = st.sampled_from(names)
    return st.one_of(
        st.builds(File, path, _CONTENTS, _MODES, st.booleans(), st.sampled_from(["", "c/bin", *names])),
        st.builds(Directory, path, _MODES),
        st.builds(Absent, path),
        st.builds(Link, st.sampled_from(["l", "b"]), st.sampled_from(["x", "y"])),
        st.builds(lambda mode: Binary("c/bin", hashlib.sha256(BLOB).hexdigest(), len(BLOB), mode), _MODES),
        st.builds(lambda name: Command(name, "cat > NAME", "test -s NAME", b"x"), st.sampled_from(["m", "n"])),
    )


def _lists(longest: int) -> st.SearchStrategy[list[HostStep]]:
    def with_one_binary(steps: list[HostStep]) -> list[HostStep]:
        # A blob is brought once for a run, and nothing else is put in its place.
        first = next((step for step in steps if isinstance(step, Binary)), None)
        return [step for step in steps if not isinstance(step, Binary) or step is first]

    return st.lists(_steps(NAMES), min_size=1, max_size=longest).map(with_one_binary)


def _placed(step: HostStep, folder: Path) -> HostStep:
    def at(path: str) -> str:
        return f"{folder}/{path}"

    match step:
        case File(path, data, mode, secret, unless):
            return File(at(path), data, mode, secret, unless and at(unless))
        case Directory(path, mode):
            return Directory(at(path), mode)
        case Absent(path):
            return Absent(at(path))
        case Link(path, target):
            return Link(at(path), target)
        case Binary(path, digest, size, mode):
            return Binary(at(path), digest, size, mode)
        case Command(title, run, unless, stdin):
            return Command(title, run.replace("NAME", at(title)), unless.replace("NAME", at(title)), stdin)
    raise TypeError(step)


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "15")),
    deadline=None,
    derandomize=True,
    phases=[Stage.explicit, Stage.generate],
)
@given(before=_lists(4), steps=_lists(6))
def test_what_a_look_says_is_what_a_run_does(
    tmp_path_factory: pytest.TempPathFactory, before: list[HostStep], steps: list[HostStep]
) -> None:
    machine = _machine(tmp_path_factory.mktemp("look"))
    with contextlib.suppress(HostsFailed):
        machine.run(*(_placed(step, machine.folder) for step in before))
    todo = [_placed(step, machine.folder) for step in steps]
    state = _tree(machine.folder.parent)
    said, said_error = _attempt(machine, look, todo)
    assert _tree(machine.folder.parent) == state, "a look changed something"
    done, done_error = _attempt(machine, execute, todo)
    assert said_error == done_error
    for at, (expected, found) in enumerate(zip(said, done, strict=True)):
        assert expected in {found, "?"}, f"step {at}, {todo[at]}: a look says {expected!r}, a run {found!r}"


def _attempt(machine: Machine, way: object, steps: Sequence[HostStep]) -> tuple[list[str], str]:
    """Give each step's outcome as far as it went, and the step that failed."""
    events: list[Event] = []
    try:
        machine.told(way, ("phase", steps), events=events)
    except HostsFailed as error:
        (raised,) = error.failures.values()
        assert isinstance(raised, StepFailed)
        return _outcomes(events), raised.step
    return _outcomes(events), ""


def test_a_change_of_a_file_is_a_unified_diff(machine: Machine) -> None:
    path = machine.folder / "conf"
    path.write_text("one\ntwo\n")
    (told,) = _differences(machine.look(File(str(path), b"one\nthree\n")))
    assert told == f"--- {path}\n+++ {path}\n@@ -1,2 +1,2 @@\n one\n-two\n+three"
    (told,) = _differences(machine.look(File(str(machine.folder / "new"), b"x\n")))
    assert told.splitlines()[2:] == ["@@ -0,0 +1 @@", "+x"]


def test_a_changed_mode_is_told(machine: Machine) -> None:
    path = machine.folder / "conf"
    path.write_text("x")
    path.chmod(0o666)
    assert _differences(machine.look(File(str(path), b"x", 0o600))) == ["mode 666 -> 600, owner 0:0 -> 0:0"]


def test_of_a_secret_file_only_digests_are_told(machine: Machine) -> None:
    path = machine.folder / "secret"
    path.write_text("hunter1")
    events = machine.look(File(str(path), b"hunter2", 0o600, secret=True))
    digests = [hashlib.sha256(data).hexdigest() for data in (b"hunter1", b"hunter2")]
    assert _differences(events) == [f"sha256:{digests[0]} -> sha256:{digests[1]}"]
    assert "hunter" not in repr(events)


def test_no_content_of_a_secret_file_goes_to_the_machine() -> None:
    assert b"hunter2" not in batch.compile_looks([File("/x", b"hunter2", secret=True)])


def test_keys_that_a_run_would_draw_are_told_so_and_kept_ones_are_not(machine: Machine) -> None:
    key = pki("apiserver.key")
    step = File(str(machine.folder / "apiserver.key"), key, 0o600, secret=True)
    assert _differences(machine.look(step)) == ["nothing -> new key"]
    machine.facts = Facts(files={step.path: key})
    assert _differences(machine.look(step)) == [f"nothing -> sha256:{hashlib.sha256(key).hexdigest()}"]
    conf = files()["/etc/kubernetes/admin.conf"]
    assert _differences(machine.look(File(str(machine.folder / "c"), conf, secret=True))) == ["nothing -> new key"]
    ca = File(str(machine.folder / "ca.crt"), pki("ca.crt"))
    assert _differences(machine.look(ca)) == ["nothing -> new certificate"]


def test_names_that_a_new_certificate_has_more_or_less_are_told(machine: Machine) -> None:
    path = machine.folder / "apiserver.crt"
    path.write_bytes(pki("apiserver.crt"))
    (told,) = _differences(machine.look(File(str(path), pki("etcd/server.crt"))))
    assert ", also for localhost, ::1, no more for " in told
    (told,) = _differences(machine.look(File(str(path), pki("apiserver.crt") + b"\n")))
    assert told.endswith(" -> new certificate")


def test_a_look_holds_no_function_that_changes_a_machine() -> None:
    for step in (File("/x", b""), Command("x", "rm -rf /x", "false", b"stdin")):
        tar = batch.compile_looks([step])
        assert b"batch.sh" not in tar.replace(b"writes.", b"").split(b"main.sh")[0][:512]
        assert b"must mv" not in tar
        assert b"rm -rf /x" not in tar
        assert b"\nstdin" not in tar


def test_a_wait_that_is_not_met_is_told_with_its_reason(machine: Machine) -> None:
    (event,) = machine.look(Wait("the moon", "echo it is day; false", 600))
    assert isinstance(event, Drift)
    assert (event.step, event.what, event.difference) == ("the moon", "", "it is day")


def test_what_depends_on_a_command_that_is_not_run_is_said_to(machine: Machine) -> None:
    first = ("prepare/first", [Command("make it", "true", "false")])
    events = machine.told(look, first, ("second", [Wait("it", "false", 600), Command("go on", "true", "false")]))
    on = ("prepare/first", "make it")
    assert events[1:] == [Depends("one", "second", "it", *on), Depends("one", "second", "go on", *on, "done")]


def test_where_a_run_would_fail_a_look_fails_alike(machine: Machine) -> None:
    step = File(str(machine.folder), b"")
    errors = []
    for way in (look, execute):
        with pytest.raises(HostsFailed) as raised:
            machine.told(way, ("phase", [step]))
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


def test_a_machine_that_cannot_be_looked_at_does_not_hide_the_others(tmp_path: Path) -> None:
    machine = _machine(tmp_path)
    nodes = tuple(Node(Host(name=name, address=name, roles=("worker",)), "192.0.2.1") for name in ("one", "two"))
    site = Site(Cluster(), nodes, Contents("1.37.2", "linux/amd64", (), ()))
    (machine.folder / "one").mkdir()

    def make(_: Site, node: Node) -> Iterator[Step]:
        yield File(str(machine.folder / node.name), b"x")

    events: list[Event] = []
    hosts = dict.fromkeys(("one", "two"), machine.host)
    with pytest.raises(HostsFailed) as raised:
        look(
            build([Phase("p", "all", make)], site, nodes=nodes),
            Means(hosts, _no_api, lambda _: io.BytesIO(BLOB)),
            events.append,
        )
    assert raised.value.succeeded == ("two",)
    assert [type(event) for event in events] == [HostFailed, Drift]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with serving(tmp_path) as running:
        running.put("/readyz", {})
        yield running


def _map(**data: str) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "kube-public"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _look_at_cluster(machine: Machine, port: int, *steps: Step) -> list[Event]:
    """Look at steps of one phase, the API server being at `port`."""

    def api() -> Api:
        return Api.connect(machine.host, "127.0.0.1", port, server_name="kubernetes", ca=pki("ca.crt"), seconds=60)

    return machine.told(look, ("phase", steps), api=api)


def test_objects_are_compared_by_the_servers_own_dry_run(machine: Machine, server: ApiServer) -> None:
    server.put(MAP, _map(x="old", y="same"))
    before = dict(server.objects)

    def dry(request: Request) -> Answer | None:
        if request.method != "PATCH":
            return None
        assert "dryRun=All" in request.query
        return 200, merge(server.objects[request.path], request.body)

    server.before = dry
    absent = {**_map(), "metadata": {"name": "b", "namespace": "kube-public"}}
    steps = [ApiObject(_map(x="new")), ApiObject(_map(y="same")), ApiObject(absent), ApiObject(_map(x="z"), True)]
    events = _look_at_cluster(machine, server.port, *steps)
    assert _outcomes(events) == ["configured", "", "created", ""]
    assert "-  x: old\n+  x: new" in _differences(events)[0]
    assert server.objects == before
    assert {request.method for request in server.requests} == {"GET", "PATCH"}


def test_a_change_of_who_owns_a_field_is_a_change(machine: Machine, server: ApiServer) -> None:
    server.put(MAP, _map(x="y"))
    owned = {"manager": "kubestrap", "operation": "Apply", "time": "now", "fieldsV1": {}}

    def dry(request: Request) -> Answer | None:
        found = server.objects[MAP]
        own = {**found, "metadata": {**found["metadata"], "managedFields": [owned]}}
        return (200, own) if request.method == "PATCH" else None

    server.before = dry
    (event,) = _look_at_cluster(machine, server.port, ApiObject(_map(x="y")))
    assert isinstance(event, Drift)
    assert (event.what, event.difference) == ("configured", "who owns which of its fields")


def test_labels_and_taints_that_a_node_lacks_are_told(machine: Machine, server: ApiServer) -> None:
    server.put("/api/v1/nodes/n1", {"kind": "Node", "metadata": {"name": "n1"}, "spec": {}})
    marks = NodeMarks("n1", labels=(("role", "x"),), taints=(("t", "", "NoSchedule"),))
    wait = ApiWait("it", "v1", "Node", "n2", "", lambda node: node is not None or "there is no such Node", 600)
    events = _look_at_cluster(machine, server.port, marks, wait, NodeMarks("n2"))
    assert _outcomes(events) == ["labelled and tainted", "?", "?"]
    assert "+    role: x" in _differences(events)[0]
    assert server.objects["/api/v1/nodes/n1"]["spec"] == {}


def test_of_a_secrets_values_only_digests_are_told() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "aHVudGVyMg=="}}
    told = differences.of_objects(None, secret)
    assert "aHVudGVyMg" not in told
    assert "+  token: sha256:" in told


def test_a_cluster_that_is_not_made_yet_is_not_asked(machine: Machine) -> None:
    first = File(str(machine.folder / "manifest"), b"x")
    events = _look_at_cluster(machine, closed_port(), first, ApiObject(_map(x="y")))
    assert events[1] == Depends("one", "phase", "ConfigMap kube-public/a", "phase", first.path)


def test_a_cluster_that_does_not_answer_though_all_is_right_is_an_error(machine: Machine) -> None:
    with pytest.raises(HostsFailed) as raised:
        _look_at_cluster(machine, closed_port(), ApiObject(_map(x="y")))
    assert isinstance(raised.value.failures["one"], ApiUnreachable)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
