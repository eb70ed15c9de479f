"""The builder with a go command that is a shell script: what is run, kept, and told when it fails."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.bundle import catalog
from bootstrap.bundle.gomodules import BuildFailed, Tools, compile_module, compile_pause

MODULE = catalog.module("etcd")
WORKS = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/calls"
while [ "$1" != -o ]; do shift; done
out=$2
shift 2
for package in "$@"; do
    name=${package%/v3}
    echo "$name" >"$out${name##*/}"
done
"""


def tools(folder: Path, script: str) -> Tools:
    go = folder / "go"
    go.write_text(script)
    go.chmod(0o755)
    return Tools(str(go), "go1.26.8", "gcc")


def calls(folder: Path) -> int:
    file = folder / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


def silent(_: str) -> None:
    pass


def test_programs_get_their_own_names(tmp_path: Path) -> None:
    built = compile_module(MODULE, MODULE.programs, tools(tmp_path, WORKS), silent)
    assert {path.name for path in built.iterdir()} == {"etcd", "etcdctl", "etcdutl"}


def test_each_program_is_told_when_it_is_built(tmp_path: Path) -> None:
    lines: list[str] = []
    compile_module(MODULE, MODULE.programs, tools(tmp_path, WORKS), lines.append)
    assert any(line.startswith("etcd 3/3 ") for line in lines)


def test_a_second_build_does_not_call_go(tmp_path: Path) -> None:
    go = tools(tmp_path, WORKS)
    first = compile_module(MODULE, MODULE.programs, go, silent)
    lines: list[str] = []
    assert compile_module(MODULE, MODULE.programs, go, lines.append) == first
    assert calls(tmp_path) == 1
    assert lines == ["etcd: unchanged"]


def test_another_go_builds_again_and_the_old_programs_go(tmp_path: Path) -> None:
    go = tools(tmp_path, WORKS)
    first = compile_module(MODULE, MODULE.programs, go, silent)
    second = compile_module(MODULE, MODULE.programs, replace(go, go_version="go1.26.9"), silent)
    assert second != first
    assert not first.exists()


def test_one_module_leaves_the_programs_of_others(tmp_path: Path) -> None:
    go = tools(tmp_path, WORKS)
    flannel, plugin = catalog.module("flannel"), catalog.module("flannel-cni")
    first = compile_module(plugin, plugin.programs, go, silent)
    compile_module(flannel, flannel.programs, go, silent)
    compile_module(flannel, flannel.programs, replace(go, go_version="go1.26.9"), silent)
    assert first.exists()


def test_a_failed_build_tells_gos_last_lines_and_leaves_nothing(tmp_path: Path, cache_folder: Path) -> None:
    script = "#!/bin/sh\necho 'first line' >&2\nseq 100\necho 'no space left on device' >&2\nexit 1\n"
    with pytest.raises(BuildFailed, match="no space left on device") as error:
        compile_module(MODULE, MODULE.programs, tools(tmp_path, script), silent, attempts=1)
    assert "first line" not in str(error.value)
    assert list((cache_folder / "programs").iterdir()) == []


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path, cache_folder: Path) -> None:
    left = cache_folder / "programs" / ".etcd@123.abc"
    left.mkdir(parents=True)
    compile_module(MODULE, MODULE.programs, tools(tmp_path, WORKS), silent)
    assert not left.exists()


def test_the_version_is_linked_in(tmp_path: Path) -> None:
    kubernetes = catalog.module("kubernetes")
    compile_module(kubernetes, {"kubelet": kubernetes.programs["kubelet"]}, tools(tmp_path, WORKS), silent)
    command = (tmp_path / "calls").read_text()
    assert f"-X=k8s.io/component-base/version.gitVersion=v{kubernetes.version}" in command
    assert "-trimpath" in command


def test_a_build_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    fails_once = WORKS.replace("while [", 'mkdir "$(dirname "$0")/tried" && exit 1\nwhile [', 1)
    lines: list[str] = []
    built = compile_module(MODULE, MODULE.programs, tools(tmp_path, fails_once), lines.append)
    assert (built / "etcd").exists()
    assert any("trying again (2 of 3)" in line for line in lines)


def test_pause_is_compiled_from_its_source_in_the_module_once(tmp_path: Path) -> None:
    source = tmp_path / "module" / "build" / "pause" / "linux" / "pause.c"
    source.parent.mkdir(parents=True)
    source.write_text(
        "#include <stdio.h>\n#define S(x) #x\n#define T(x) S(x)\nint main(void) { puts(T(VERSION)); return 0; }\n"
    )
    go = tools(tmp_path, f"#!/bin/sh\n[ $1 = list ] && echo {tmp_path}/module\n")
    program = compile_pause(go, silent)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "v3.10.2\n"
    source.unlink()
    assert compile_pause(go, silent) == program
    with pytest.raises(BuildFailed, match=r"pause\.c"):
        compile_pause(replace(go, c_inputs="another"), silent)
    assert list(program.parent.iterdir()) == []
