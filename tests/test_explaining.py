"""`kubestrap explain`: what it says of each name that messages and events have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from bootstrap import cli, explaining, mistakes, preflight, verify

KNOWN = explaining.everything()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_every_name_is_explained_once() -> None:
    assert [name for name, count in Counter(one.id for one in KNOWN).items() if count > 1] == []
    names = {one.id for one in KNOWN}
    assert names >= {*mistakes.catalogue(), *(check for check, _, _ in verify.describe())}


def test_preflights_checks_are_all_explained_and_no_others() -> None:
    names = {name.partition("<")[0] for check in explaining.preflight_checks() for name in check.names}
    assert names - {"Reach-vrrp"} == {*preflight.NAMES, *preflight.FAMILIES}


def test_the_kinds_of_errors_of_all_modules_are_explained() -> None:
    script = (
        "import importlib, pkgutil, bootstrap\n"
        "from bootstrap import explaining\n"
        "explained = explaining.kinds()\n"
        "for module in pkgutil.walk_packages(bootstrap.__path__, 'bootstrap.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print([kind.__name__ for kind in explaining.kinds() if kind not in explained])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_mistake_is_shown_as_its_message_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "[inventory-no-control-plane]")
    assert "What to do: Add control-plane to the roles of a host." in shown
    assert "roles: [control-plane, worker]" in shown.partition("Right:")[2]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Swap", "A check of preflight; what must be: no swap is in use"),
        ("swap", "A check of verify, made on "),
        ("numcpu", "NumCPU\n"),
        ("Port-10250", "Port-<number>\n"),
        ("Reach-vrrp", "Reach-vrrp\n"),
        ("9", "An exit code: another run works on a machine"),
        ("HostKeyRefused", "Its exit code is 6."),
    ],
)
def test_checks_codes_and_kinds_of_errors_are_explained(
    name: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown in told(capsys, name)


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split("  ")[0] for line in told(capsys).splitlines()] == [one.id for one in KNOWN]


def test_programs_get_a_mistake_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in told(capsys, "inventory-tab", "--output", "json").splitlines()]
    (data,) = (line["data"] for line in lines if line["event"] == "result")
    assert (data["group"], data["id"]) == ("mistake", "inventory-tab")
    assert "\tname" in data["wrong"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("inventory-bad-lable", "did you mean inventory-bad-label?"), ("xyzzy", "kubestrap explain lists all names")],
)
def test_a_name_that_there_is_not_gives_the_nearest_one(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["explain", name]) == 2
    assert hint in capsys.readouterr().err
