"""Building a bundle from source: Go modules pinned in `modules/`, and images made of what they give.

For another kind of processor than this machine's, Go and a cross compiler of Debian's do the same.

Go's two caches stand in the cache folder, and so do the finished programs: under a key made of everything that
decides what they are, so that a second build calls no compiler at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform as machine
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap.bundle import cache, catalog, debian, elf, manifest, oci
from bootstrap.bundle.catalog import Image, Module
from bootstrap.bundle.foreign import TOOLS as FOREIGN_TOOLS
from bootstrap.bundle.foreign import TRIPLETS, Root, unpack
from bootstrap.bundle.manifest import BinaryFile, BundleFile, ImageFile, Manifest
from bootstrap.bundle.reader import Progress
from bootstrap.bundle.source import take
from bootstrap.errors import BootstrapError, NotSupported

BUILD_SECONDS = 3 * 3600
"""The limit of one module's build; Kubernetes takes 15 minutes on two idle cores."""

REPORT_SECONDS = 60
_NOT_OURS = ("GOFLAGS", "GOWORK", "GOEXPERIMENT", "GOARCH", "GOOS", "GOAMD64", "CC", "CXX")
_PLACES = re.compile("CACHE$|^PKG_CONFIG_")
"""Variables that say where something is, and nothing of what comes of it."""
_BASELINES = {"amd64": "v1", "arm64": "v8.0"}
"""The oldest processors of each kind that programs run on, as Go names them (GOAMD64, GOARM64)."""
_C_TOOLS = {"gcc": "gcc", "libc.a": "libc6-dev", "libseccomp.a": "libseccomp-dev", "pkg-config": "pkg-config"}


class BuildFailed(BootstrapError):
    """Go could not fetch or compile something. The message ends with the last lines it wrote."""


class BuildTimedOut(BootstrapError):
    """A build, or the wait for another one, did not end within its limit."""

    exit_code = 10


class BuildToolsMissing(BootstrapError):
    """The operator's machine lacks something that building needs. The message names all of it, and how to get it."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class GoModules:
    """The Go modules under `modules/`, and Debian's programs of the machine that builds."""

    platform: str = catalog.PLATFORM

    def unreachable(self) -> BootstrapError | None:
        """Give None: what this machine lacks for building is told by building."""
        return None

    def fill(self, folder: Path, progress: Progress) -> Manifest:
        """Build every program and image.

        Raises `BuildToolsMissing` before anything is built, and `BuildFailed`.
        """
        tools = check_tools(self.platform)
        programs: dict[tuple[str, str], Path] = {}
        with only_builder(progress):
            tools = with_libraries(tools, progress)
            for module in catalog.GO_MODULES:
                built = compile_module(module, module.programs, tools, progress)
                programs |= {(module.name, name): built / name for name in module.programs}
            programs |= {("kubernetes", "pause"): compile_pause(tools, progress)}
            require_architecture(programs.values(), tools.architecture)
            files: list[BundleFile] = [
                _binary(folder, programs[owner, name], owner, name, where) for owner, name, where in catalog.BINARIES
            ]
            tools_layers = {name: debian.layer(name, tools.root) for name in debian.LAYERS}
            files_in_layers = (entry.source for entries in tools_layers.values() for entry in entries)
            require_architecture((file for file in files_in_layers if isinstance(file, Path)), tools.architecture)
            for number, image in enumerate(catalog.IMAGES, 1):
                progress(f"images {number}/{len(catalog.IMAGES)} {image.name}")
                files.append(_image(folder, image, programs, tools_layers, self.platform))
        return Manifest(kubernetes_version=catalog.kubernetes_version(), platform=self.platform, files=tuple(files))


@dataclass(frozen=True, slots=True)
class Tools:
    """What builds on this machine: the go command, its version, and a digest of what cgo links in.

    For another `architecture` (Go's name of it) than this machine's, `root` has the libraries that cgo links in, and
    the programs of images.
    """

    go: str
    go_version: str
    c_inputs: str
    architecture: str = "amd64"
    root: Root | None = None

    @property
    def gcc(self) -> str:
        """The C compiler."""
        return _gcc(self.architecture)

    def label(self, name: str) -> str:
        """Name what is built, in the cache and for people."""
        return name if self.architecture == "amd64" else f"{name}-{self.architecture}"


def build_tool(name: str, progress: Progress = lambda _: None) -> Path:
    """Give the path of a program that only tests use (`kubeadm`), built where it is not in the cache.

    Raises as `GoModules.fill` does, and `KeyError` for a name that is none of `catalog.TEST_PROGRAMS`.
    """
    owner, package = catalog.TEST_PROGRAMS[name]
    with only_builder(progress):
        return compile_module(catalog.module(owner), {name: package}, check_tools(), progress) / name


def check_tools(platform: str = catalog.PLATFORM) -> Tools:
    """Find what building needs. Raises `BuildToolsMissing` with everything that is not there."""
    if machine.system() != "Linux" or machine.machine() != "x86_64":
        raise NotSupported("`kubestrap bundle build` makes bundles on machines of linux/amd64; copy one with --from")
    architecture = platform.partition("/")[2]
    is_foreign = platform != catalog.PLATFORM
    needed = max(module.go_version for module in catalog.GO_MODULES)
    go = shutil.which("go", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/go/bin")))
    version = _output([go, "env", "GOVERSION"]) if go else ""
    problems = []
    if _numbers(version) < needed:
        wanted = ".".join(map(str, needed))
        problems.append(f"Go {wanted} or newer, from go.dev/dl ({version or 'no go command'} is what there is)")
    if is_foreign:
        c_tools = {_gcc(architecture): f"gcc-{TRIPLETS[architecture]}", "pkg-config": "pkg-config", **FOREIGN_TOOLS}
        packages = [package for what, package in c_tools.items() if debian.find(what) is None]
    else:
        packages = [package for what, package in _C_TOOLS.items() if _c_file(what) is None]
        packages += [*debian.missing().values()]
    if packages:
        problems.append(f"Debian packages: apt-get install -y {' '.join(sorted(set(packages)))}")
    if problems or go is None:
        lines = [f"  {problem}" for problem in problems]
        raise BuildToolsMissing("\n".join(["building a bundle needs what this machine lacks:", *lines]))
    if is_foreign:
        return Tools(go, version, "", architecture)
    return Tools(go, version, _c_inputs("gcc", map(_c_file, ("libc.a", "libseccomp.a"))))


def with_libraries(tools: Tools, progress: Progress) -> Tools:
    """Add what another kind of processor needs of Debian. Raises `BootstrapError` where that cannot be had."""
    if tools.architecture == "amd64":
        return tools
    root = unpack(tools.architecture, (*debian.PACKAGES.values(), "libseccomp-dev"), progress)
    libc = Path(_output([tools.gcc, "-print-file-name=libc.a"]))
    seccomp = root.path / "usr/lib" / root.triplet / "libseccomp.a"
    return replace(tools, root=root, c_inputs=_c_inputs(tools.gcc, (libc, seccomp)))


def _c_inputs(gcc: str, libraries: Iterable[Path | None]) -> str:
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in libraries if path is not None)
    return "\n".join([_output([gcc, "-dumpfullversion"]), *digests])


def _gcc(architecture: str) -> str:
    return "gcc" if architecture == "amd64" else f"{TRIPLETS[architecture]}-gcc"


def require_architecture(files: Iterable[Path], wanted: str) -> None:
    """Raise `BuildFailed` where a program or library is not for that kind of processor."""
    for file in files:
        found = elf.architecture(file)
        if found != wanted:
            raise BuildFailed(f"{file} is for {found or 'no processor'}, and {wanted} is what is built for")


def compile_module(
    module: Module, programs: Mapping[str, str], tools: Tools, progress: Progress, *, attempts: int = 3
) -> Path:
    """Give the folder with `programs` (packages by name) of `module`, built where the cache does not hold it.

    The folder is whole or not there at all; older ones of the same programs are removed. A build that fails is tried
    again: what was fetched and compiled stays in Go's caches, so only the network gets another chance.
    Raises `BuildFailed` after the last attempt, and `BuildTimedOut`.
    """
    command, environment = _build(module, tools)
    key = _key(module, programs, command, environment, tools)
    shelf = cache.folder() / "programs"
    label = tools.label(module.name if programs == module.programs else f"{module.name}-{'-'.join(programs)}")
    built = shelf / f"{label}@{key}"
    if built.is_dir():
        progress(f"{label}: unchanged")
        return built
    shelf.mkdir(parents=True, exist_ok=True)
    for old in shelf.glob(f"*{label}@*"):
        if old.name.lstrip(".").startswith(f"{label}@"):
            shutil.rmtree(old)
    work = Path(tempfile.mkdtemp(dir=shelf, prefix=f".{label}@{key}."))
    started = time.monotonic()
    build = [*command, "-o", f"{work}/", *programs.values()]
    try:
        for attempt in range(1, attempts + 1):
            try:
                _compile(label, build, environment, module, programs, work, progress)
                break
            except BuildFailed:
                if attempt == attempts:
                    raise
                progress(f"{label}: failed, trying again ({attempt + 1} of {attempts})")
                time.sleep(2 * attempt)
        for name, package in programs.items():
            (work / _output_name(package)).rename(work / name)
        work.rename(built)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress(f"{label}: built in {time.monotonic() - started:.0f} s")
    return built


def compile_pause(tools: Tools, progress: Progress) -> Path:
    """Give the path of Kubernetes' `pause`, a page of C in the pinned module, compiled as Kubernetes does it.

    Raises `BuildFailed`.
    """
    module = catalog.module("kubernetes")
    (tag,) = (image.tag for image in catalog.IMAGES if image.name == "pause")
    command = [tools.gcc, "-Os", "-Wall", "-Werror", "-static", "-s", "-Wl,--build-id=none", f"-DVERSION=v{tag}"]
    key = hashlib.sha256("\n".join([module.version, tools.c_inputs, *command]).encode()).hexdigest()[:24]
    label = tools.label("pause")
    built = cache.folder() / "programs" / f"{label}@{key}"
    if built.exists():
        progress(f"{label}: unchanged")
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    for old in built.parent.glob(f"{label}@*"):
        old.unlink()
    environment = {**os.environ, **_build(module, tools)[1]}
    asked = [tools.go, "list", "-m", "-f", "{{.Dir}}", module.main]
    work = built.with_name(f"{built.name}.new")
    try:
        found = subprocess.run(
            asked, cwd=module.folder, env=environment, capture_output=True, text=True, timeout=600, check=True
        )
        source = Path(found.stdout.strip()) / "build" / "pause" / "linux" / "pause.c"
        subprocess.run([*command, "-o", work, source], capture_output=True, text=True, timeout=600, check=True)
    except subprocess.CalledProcessError as error:
        raise BuildFailed(f"building pause failed:\n{error.stderr}") from error
    work.rename(built)
    progress(f"{label}: built")
    return built


@contextlib.contextmanager
def only_builder(progress: Progress) -> Iterator[None]:
    """Hold the lock of the cache folder, so that two builds do not do the same work twice.

    Waits for it for three hours at most.
    """
    folder = cache.folder()
    folder.mkdir(parents=True, exist_ok=True)
    limit = time.monotonic() + BUILD_SECONDS
    with (folder / "build.lock").open("w") as lock:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > limit:
                    raise BuildTimedOut(f"another build has held {lock.name} for three hours; end it first") from error
                if not waiting:
                    progress("waiting for another build to end")
                waiting = True
                time.sleep(1)
        yield


def _build(module: Module, tools: Tools) -> tuple[list[str], dict[str, str]]:
    major, minor, *_ = module.version.split(".")
    values = {"version": module.version, "major": major, "minor": minor}
    flags = ["-s", "-w", *(["-extldflags=-static"] if module.cgo else [])]
    flags += [f"-X={name}={value.format_map(values)}" for name, value in module.variables.items()]
    environment = {
        "CGO_ENABLED": "1" if module.cgo else "0",
        f"GO{tools.architecture.upper()}": _BASELINES[tools.architecture],
        "GOARCH": tools.architecture,
        "GOCACHE": str(cache.folder() / "go" / "build"),
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOMODCACHE": str(cache.folder() / "go" / "mod"),
        "GOOS": "linux",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    if tools.root:
        libraries = tools.root.path / "usr/lib" / tools.root.triplet / "pkgconfig"
        environment |= {
            "CC": tools.gcc,
            "PKG_CONFIG_LIBDIR": str(libraries),
            "PKG_CONFIG_SYSROOT_DIR": str(tools.root.path),
        }
    return [tools.go, "build", "-trimpath", "-tags", module.tags, "-ldflags", " ".join(flags)], environment


def _key(
    module: Module, programs: Mapping[str, str], command: Sequence[str], environment: Mapping[str, str], tools: Tools
) -> str:
    parts = {
        "command": command[1:],
        "environment": {name: value for name, value in environment.items() if not _PLACES.search(name)},
        "go": tools.go_version,
        "c": tools.c_inputs if module.cgo else "",
        "programs": dict(programs),
        "pins": [hashlib.sha256((module.folder / name).read_bytes()).hexdigest() for name in ("go.mod", "go.sum")],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _compile(
    label: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    module: Module,
    programs: Mapping[str, str],
    work: Path,
    progress: Progress,
) -> None:
    """Run go, telling of each program when it is there, and every minute that the work goes on."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in _NOT_OURS and not name.startswith("CGO_")
    }
    progress(f"{label}: building {len(programs)} program{'s' if len(programs) > 1 else ''}")
    started = told = time.monotonic()
    left = {_output_name(package): name for name, package in programs.items()}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=module.folder,
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            ended = False
            while not ended:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                ended = process.poll() is not None
                for output in [output for output in left if (work / output).exists()]:
                    progress(f"{label} {len(programs) - len(left) + 1}/{len(programs)} {left.pop(output)}")
                now = time.monotonic()
                if now - started > BUILD_SECONDS:
                    raise BuildTimedOut(f"building {label} did not end within {BUILD_SECONDS // 3600} hours")
                if now - told > REPORT_SECONDS:
                    told = now
                    progress(f"{label}: compiling for {now - started:.0f} s, {len(left)} of {len(programs)} to come")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=60)
        if process.returncode != 0:
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            last = "\n".join(f"  {line}" for line in lines[-15:])
            raise BuildFailed(f"building {label} failed; go's last lines (in {module.folder}):\n{last}")


def _output_name(package: str) -> str:
    """Name the file that go makes of a main package: the last element of its path that is not a version."""
    return next(part for part in reversed(package.split("/")) if not re.fullmatch(r"v[0-9]+", part))


def _binary(folder: Path, program: Path, owner: str, name: str, where: str) -> BinaryFile:
    copy = folder / manifest.BLOBS / f".{name}"
    shutil.copyfile(program, copy)
    digest, size = take(folder, copy)
    version = catalog.module(owner).version
    return BinaryFile(name=name, version=version, path=f"{where}/{name}", size=size, sha256=digest)


def _image(
    folder: Path,
    image: Image,
    programs: Mapping[tuple[str, str], Path],
    tools_layers: Mapping[str, Sequence[oci.Entry]],
    platform: str,
) -> ImageFile:
    version = catalog.module(image.module).version if "{version}" in image.tag else image.tag
    tag = image.tag.format(version=version)
    base = [
        oci.Entry("/etc/group", b"root:x:0:\nnogroup:x:65534:\n", mode=0o644),
        oci.Entry("/etc/nsswitch.conf", b"hosts: files dns\n", mode=0o644),
        oci.Entry("/etc/passwd", b"root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n", mode=0o644),
        oci.Entry("/tmp", mode=0o1777),  # noqa: S108 (a directory of the image)
    ]
    layers: list[Sequence[oci.Entry]] = [base, *(tools_layers[name] for name in image.tools)]
    for name, path in image.files.items():
        layers.append([oci.Entry(path, programs[image.module, name])])
    config = oci.Config((next(iter(image.files.values()), image.name),), image.command, image.user)
    reference = f"{image.repository}:{tag}"
    archive = folder / manifest.BLOBS / f".{image.name}.tar"
    target = oci.write_image(layers, config, reference, platform, archive)
    digest, size = take(folder, archive)
    return ImageFile(name=image.name, version=version, reference=reference, target=target, size=size, sha256=digest)


def _c_file(what: str) -> Path | None:
    """Find a program for building C, or a library that gcc links statically."""
    if not what.endswith(".a"):
        return debian.find(what)
    gcc = debian.find("gcc")
    if gcc is None:
        return None
    found = Path(_output([str(gcc), f"-print-file-name={what}"]))
    return found if found.is_absolute() and found.exists() else None


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, "GOTOOLCHAIN": "local"}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _numbers(go_version: str) -> tuple[int, ...]:
    """Turn `go1.26.8` into (1, 26, 8); nothing into ()."""
    return tuple(map(int, re.findall(r"[0-9]+", go_version.partition(" ")[0])))
