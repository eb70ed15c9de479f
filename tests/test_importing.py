from __future__ import annotations

import contextlib
import copy
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import cli, importing
from bootstrap.importing.ansible import jump_host
from bootstrap.importing.draft import ImportId
from bootstrap.importing.groups import expanded
from bootstrap.inventory import load

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden" / "import"
SOURCES = ["kubespray", "ansible.yaml", "terraform.json", "terraform-kubeone.json", "k0sctl.yaml", "kubeone.yaml"]
REFUSED = sorted(path.name for path in (GOLDEN / "refused").iterdir() if path.suffix != ".txt")


STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "a=b:c",
    "10.0.0.1",
    "{{ x }}",
    [],
    [1],
    ["a"],
    [None],
    {},
    {"a": 1},
    {"a": {}},
]
few = settings(deadline=None, derandomize=True, max_examples=30)


def slots(value: Any) -> Iterator[tuple[Any, Any]]:
    """List every place that holds a value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from slots(inner)


def golden(path: Path, text: str) -> None:
    if os.environ.get("KUBESTRAP_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path} is something else; KUBESTRAP_UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize("source", SOURCES)
def test_an_inventory_is_made_and_what_it_does_not_say_is_told(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    made = importing.read(Path(source))
    golden(GOLDEN / "made" / f"{source}.inventory.yaml", made.text)
    golden(GOLDEN / "made" / f"{source}.notes.txt", "".join(f"{note}\n" for note in made.notes))


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_made_is_a_valid_inventory(source: str) -> None:
    load(GOLDEN / "made" / f"{source}.inventory.yaml")


@pytest.mark.parametrize("source", SOURCES)
def test_secrets_of_others_are_not_repeated(source: str) -> None:
    made = importing.read(GOLDEN / source)
    assert "sesame" not in made.text + "".join(made.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_imported_is_told_in_these_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN / "refused")
    with pytest.raises(importing.ImportRefused) as refused:
        importing.read(Path(name))
    kind = Path(name).stem.partition("--")[0]
    assert (refused.value.id, refused.value.exit_code) == (f"import-{kind}", 3)
    golden(GOLDEN / "refused" / f"{Path(name).stem}.txt", f"{refused.value}\n")


def test_every_reason_has_a_golden_file_and_is_documented() -> None:
    assert {f"import-{Path(name).stem.partition('--')[0]}" for name in REFUSED} == set(get_args(ImportId))
    text = (ROOT / "docs" / "import.md").read_text()
    assert [reason for reason in get_args(ImportId) if f"`{reason}`" not in text] == []


def test_the_inventory_is_data_and_the_rest_is_talk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(GOLDEN)
    assert cli.run(["config", "import", "k0sctl.yaml"]) == 0
    streams = capsys.readouterr()
    assert streams.out == (GOLDEN / "made" / "k0sctl.yaml.inventory.yaml").read_text()
    assert streams.err == (GOLDEN / "made" / "k0sctl.yaml.notes.txt").read_text()


def test_programs_get_the_inventory_and_the_notes_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config", "import", str(GOLDEN / "terraform.json"), "--output", "json"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (data,) = [line["data"] for line in results if line["event"] == "result"]
    assert [host["name"] for host in data["inventory"]["hosts"]] == ["master1", "worker1"]
    assert len(data["notes"]) == 1


def test_standard_input_is_read_as_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with (GOLDEN / "terraform.json").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert cli.run(["config", "import", "-"]) == 0
    assert "name: master1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("node", ["node"]),
        ("node[1:3]", ["node1", "node2", "node3"]),
        ("node[08:10].example.com", ["node08.example.com", "node09.example.com", "node10.example.com"]),
        ("db-[a:c]", ["db-a", "db-b", "db-c"]),
        ("n[0:4:2]", ["n0", "n2", "n4"]),
        ("r[1:2]n[a:b]", ["r1na", "r1nb", "r2na", "r2nb"]),
    ],
)
def test_a_range_is_all_of_its_hosts(pattern: str, hosts: list[str]) -> None:
    assert expanded(pattern, "here") == hosts


@pytest.mark.parametrize(
    ("arguments", "jump"),
    [
        ('-o ProxyCommand="ssh -W %h:%p -q jump@203.0.113.1"', "jump@203.0.113.1"),
        ("-o ProxyCommand='ssh -q -W %h:%p bastion.example.com'", "bastion.example.com"),
        ("-o ProxyJump=jump@203.0.113.1:2222", "jump@203.0.113.1:2222"),
        ("-J one,two", "one,two"),
        ("-o ServerAliveInterval=5", None),
    ],
)
def test_a_jump_host_is_found_in_arguments_of_ssh(arguments: str, jump: str | None) -> None:
    assert jump_host(arguments) == jump


def test_inner_groups_win_over_outer_ones_and_hosts_over_both(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        "m ansible_host=192.0.2.1\nw1 ansible_host=192.0.2.2\nw2 ansible_host=192.0.2.3 ansible_user=c\n"
        "[kube_control_plane]\nm\n[kube_node]\nw1\nw2\n[k8s_cluster:children]\nkube_control_plane\nkube_node\n"
        "[k8s_cluster:vars]\nansible_user=a\n[kube_node:vars]\nansible_user=b\n"
    )
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "w1").write_text("ansible_port: 2222\n")
    (tmp_path / "out").write_text(importing.read(tmp_path / "hosts").text)
    hosts = load(tmp_path / "out").hosts
    assert [(host.ssh.user, host.ssh.port) for host in hosts] == [("a", None), ("b", 2222), ("c", None)]


@few
@given(st.data())
def test_whatever_stands_there_is_read_or_refused(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([name for name in SOURCES if name != "kubespray"]))
    document: Any = yaml.safe_load((GOLDEN / source).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(slots(document))))
        holder[key] = copy.deepcopy(data.draw(st.sampled_from(STRANGE)))
    with contextlib.suppress(importing.ImportRefused):
        importing.read(Path("-"), json.dumps(document))


@few
@given(st.data())
def test_whatever_variables_hold_is_read_or_refused(data: st.DataObject) -> None:
    names = sorted({*re.findall(r"`(\w+)`", (ROOT / "docs" / "import.md").read_text()), "ansible_ssh_common_args"})
    chosen = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(STRANGE), max_size=4))
    group = {"hosts": {"m": {"ansible_host": "192.0.2.1", **chosen}}, "vars": chosen}
    with contextlib.suppress(importing.ImportRefused):
        importing.read(Path("-"), json.dumps({"kube_control_plane": group, "bastion": {"hosts": {"b": chosen}}}))


def test_groups_that_hold_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        "[kube_control_plane]\nm\n[a:children]\nb\n[b:children]\na\nkube_control_plane\n[a:vars]\nansible_user=x\n"
    )
    assert "user: x" in importing.read(tmp_path / "hosts").text
