"""Reading an inventory file: a typed `Inventory`, or every mistake in the file, each at its place."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bootstrap import consistency, kubeadm, patchfiles, patching, yamlfile
from bootstrap.errors import ConfigError, NotSupported
from bootstrap.patching import Patches
from bootstrap.spec import Host, HostSsh, Inventory, LocalFile, Logins, Registries, effective_ssh
from bootstrap.values import ProblemId, described, shown
from bootstrap.yamlfile import Document, Finding, Place

__all__ = ["InventoryError", "Problem", "dump", "effective_ssh", "load", "read", "require_supported", "with_ssh"]

_PROBLEM_IDS: dict[str, ProblemId] = {problem: problem for problem in get_args(ProblemId)}
_HIDING = frozenset[ProblemId]({"inventory-alias", "inventory-merge-key"})
LARGEST_BYTES = 64 * 1024 * 1024
"""Files above this size are refused unread; 5,000 hosts need less than 2 MB."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file: where it is, what is wrong, why that matters, and what to write."""

    id: ProblemId
    file: str
    line: int
    column: int
    path: str
    what: str
    why: str = ""
    fix: str = ""

    def __str__(self) -> str:
        """Give the line shown to the user: `inventory.yaml:14:7: hosts[2].name: what; why; fix [id]`."""
        where = f"{self.file}:{self.line}:{self.column}: "
        text = "; ".join(part for part in (self.what, self.why, self.fix) if part)
        return f"{where}{self.path}: {text} [{self.id}]" if self.path else f"{where}{text} [{self.id}]"


class InventoryError(ConfigError):
    """An inventory cannot be used. Carries every problem, sorted by place."""

    prefix = ""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def load(path: Path, *, control_plane: bool = True) -> Inventory:
    """Read the inventory at `path`. Without `control_plane` it may lack a control-plane host (to join others' cluster).

    File names in it become absolute: relative ones are taken from the inventory's folder, `~` is a home folder.
    Raises `InventoryError` with all mistakes at once; a YAML syntax error hides those below it.
    """
    try:
        source = _content(path)
    except OSError as error:
        finding = Finding(
            "inventory-unreadable",
            Place(1, 1),
            (),
            f"the file cannot be read: {error.strerror or error}",
            "every command starts from an inventory",
            "name another file, or begin with a copy of inventory.example.yaml",
        )
        raise InventoryError([_problem(str(path), finding, Document(None))]) from error
    return read(source, name=str(path), folder=path.absolute().parent, control_plane=control_plane)


def read(source: bytes, *, name: str, folder: Path, control_plane: bool = True) -> Inventory:
    """Read an inventory from `source`, which messages call `name`; relative file names are taken from `folder`.

    Raises `InventoryError` as `load` does.
    """
    document = yamlfile.read(source)
    kubeadm.merge(document, lambda text: _beside(text, name, folder))
    findings = list(document.findings)
    inventory: Inventory | None = None
    if any(finding.id in _HIDING for finding in findings):
        pass  # what stands elsewhere in the file would be told as missing here
    elif isinstance(document.data, dict):
        try:
            inventory = Inventory.model_validate(document.data)
        except ValidationError as error:
            findings.extend(_schema_findings(error, document))
        findings.extend(
            finding
            for finding in consistency.check(document)
            if control_plane or finding.id != "inventory-no-control-plane"
        )
    elif not findings:
        findings.append(_not_a_mapping(document.place(())))
    if inventory is not None:
        inventory, unresolved = _with_absolute_files(inventory, folder, document)
        findings += unresolved
        inventory = _with_patches(inventory, Path(name).parent, folder, document, findings)
        inventory = _with_hooks(inventory, name, folder, document, findings)
    if inventory is None or findings:
        kept = sorted(
            _without_consequences(findings), key=lambda finding: (finding.place.file, finding.place, finding.id)
        )
        raise InventoryError([_problem(name, finding, document) for finding in kept])
    return inventory


def with_ssh(inventory: Inventory, **settings: object) -> Inventory:
    """Give `inventory` with these settings of `ssh` for every host, over what it says itself."""
    hosts = tuple(host.model_copy(update={"ssh": host.ssh.model_copy(update=settings)}) for host in inventory.hosts)
    return inventory.model_copy(update={"ssh": inventory.ssh.model_copy(update=settings), "hosts": hosts})


def dump(inventory: Inventory) -> str:
    """Write the whole inventory, every default filled in, as YAML that loads again equal."""
    data = inventory.model_dump(mode="json", by_alias=True)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(data, Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def require_supported(inventory: Inventory) -> None:
    """Refuse what the schema allows but this version cannot build yet. Raises `NotSupported`."""
    cluster = inventory.cluster
    reasons = []
    if cluster.networking.service_subnet.version == 6:
        reasons.append("IPv6 clusters (cluster.networking): use IPv4 subnets")
    if reasons:
        raise NotSupported("This version does not build yet:\n" + "\n".join(f"  {reason}" for reason in reasons))


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        source = file.read(LARGEST_BYTES + 1)
    if len(source) > LARGEST_BYTES:
        raise OSError(f"it is larger than {LARGEST_BYTES // 1024 // 1024} MiB")
    return source


def _beside(text: str, name: str, folder: Path) -> tuple[str, bytes]:
    """Read a file that an inventory names: what messages call it, and its bytes."""
    return str(Path(name).parent / text), _content(folder / Path(text).expanduser())


def _problem(file: str, finding: Finding, document: Document) -> Problem:
    return Problem(
        finding.id,
        finding.place.file or file,
        finding.place.line,
        finding.place.column,
        _dotted(document.name(finding.path)),
        finding.what,
        finding.why,
        finding.fix,
    )


def _dotted(path: yamlfile.Path) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "." in part or "/" in part or "[" in part or not part.isprintable():
            text += f"[{shown(part)}]"
        else:
            text += f".{part}" if text else part
    return text


def _not_a_mapping(place: Place) -> Finding:
    return Finding(
        "inventory-not-a-mapping",
        place,
        (),
        "the file is not a mapping",
        "an inventory is keys and values, of which apiVersion is the first",
        "begin with inventory.example.yaml",
    )


def _without_consequences(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Leave out what only follows from an earlier finding about the same value."""
    wrong: dict[yamlfile.Path, Finding] = {}
    for finding in findings:
        if finding.path in wrong and finding.path:
            continue
        wrong.setdefault(finding.path, finding)
        yield finding


def _schema_findings(error: ValidationError, document: Document) -> Iterator[Finding]:
    schema = Inventory.model_json_schema()
    details = error.errors(include_url=False)
    unknown: dict[yamlfile.Path, set[str]] = {}
    for detail in details:
        if detail["type"] == "extra_forbidden":
            path = _path(detail)
            guess = _nearest(str(path[-1]), _known_keys(schema, path[:-1], document.data))
            unknown.setdefault(path[:-1], set()).update({guess} if guess else ())
            yield _unknown_key(document, path, guess)
    for detail in details:
        path = _path(detail)
        misspelt = detail["type"] == "missing" and str(path[-1]) in unknown.get(path[:-1], ())
        # pydantic counts only the good entries of a list, so one of bad entries is "too short"
        not_short = detail["type"] == "too_short" and detail["input"]
        if detail["type"] != "extra_forbidden" and not misspelt and not not_short:
            yield _schema_finding(detail, path, document)


def _path(detail: ErrorDetails) -> yamlfile.Path:
    """Give the path in the data: pydantic's, without what names an alternative of a union or a mapping's key."""
    path = detail["loc"]
    if path[:2] == ("cluster", "endpoint"):
        path = path[:2] + path[3:]
    return path[:-1] if path and path[-1] == "[key]" else path


def _unknown_key(document: Document, path: yamlfile.Path, guess: str | None) -> Finding:
    return Finding(
        "inventory-unknown-key",
        document.keys.get(path, document.place(path)),
        path,
        f"unknown key {shown(path[-1])}",
        "no setting has this name here",
        f"did you mean {shown(guess)}?" if guess else "docs/inventory.md lists what there is",
    )


def _nearest(word: str, choices: Iterable[str]) -> str | None:
    folded = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def _known_keys(schema: Mapping[str, Any], path: yamlfile.Path, data: object) -> Iterable[str]:
    """Give the keys that the schema has at `path` of `data`."""
    here: Mapping[str, Any] = schema
    for part in (*path, None):
        while "properties" not in here and ("$ref" in here or "anyOf" in here or "oneOf" in here):
            here = _choose(schema, here, data)
        if part is None:
            break
        here = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part, {})
        data = _part(data, part)
    return list(here.get("properties", {}))


def _part(data: object, part: str | int) -> object:
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) else None


def _choose(schema: Mapping[str, Any], here: Mapping[str, Any], data: object) -> Mapping[str, Any]:
    if "anyOf" in here:
        return next((option for option in here["anyOf"] if option.get("type") != "null"), {})
    reference: str = here.get("$ref", "")
    if "oneOf" in here:
        tag = data.get(here["discriminator"]["propertyName"]) if isinstance(data, dict) else None
        reference = here["discriminator"]["mapping"].get(tag, "")
    found: Mapping[str, Any] = schema["$defs"].get(reference.rpartition("/")[2], {})
    return found


def _schema_finding(detail: ErrorDetails, path: yamlfile.Path, document: Document) -> Finding:
    """Say in our words what pydantic found."""
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "union_tag_invalid":
        path = (*path, "kind")
        said = _choice(value["kind"], context["expected_tags"])
    elif kind in {"missing", "union_tag_not_found"}:
        path = path if kind == "missing" else (*path, "kind")
        what = f"the key {shown(path[-1])} is missing"
        said = _Said("inventory-missing-key", what, "it has no default", "add it")
    elif "what" in context:
        said = _Said(_PROBLEM_IDS[kind], context["what"], context["why"], context["fix"])
    elif path in {("apiVersion",), ("kind",)}:
        what = f"{shown(value)} is not what this program reads"
        fix = f"write {context.get('expected', '').strip(chr(39))}"
        problem: ProblemId = "inventory-kind" if path == ("kind",) else "inventory-api-version"
        said = _Said(problem, what, "it tells which form the file has", fix)
    elif kind == "tuple_type" and path[-1] == "extraArgs" and isinstance(value, dict) and value:
        said = _mapping_for_arguments(value)
    elif kind in {"string_type", "literal_error"} and isinstance(value, bool | int | float):
        said = _unquoted(value, path, document)
    else:
        said = _value_finding(detail)
    is_key = detail["loc"][-1:] == ("[key]",)
    place = document.keys.get(path, document.place(path)) if is_key else document.place(path)
    return Finding(said.id, place, path, said.what, said.why, said.fix)


@dataclass(frozen=True, slots=True)
class _Said:
    id: ProblemId
    what: str
    why: str
    fix: str


def _value_finding(detail: ErrorDetails) -> _Said:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if value is None:
        why = "a key with nothing after it is null"
        return _Said("inventory-empty-value", "there is no value", why, "write one, or remove the line")
    if kind == "literal_error" and isinstance(value, str):
        return _choice(value, context["expected"])
    if kind == "too_short":
        return _Said("inventory-empty-list", "the list is empty", "at least one entry is needed", "add one")
    if kind in {"greater_than_equal", "less_than_equal"}:
        limit = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        what = f"{value} is out of range"
        return _Said("inventory-out-of-range", what, f"it must be {limit}", "choose another number")
    needed, fix = _NEEDED.get(kind, (detail["msg"], "write such a value"))
    return _Said("inventory-wrong-type", f"{described(value)} stands here", f"{needed} is needed", fix)


def _unquoted(value: object, path: yamlfile.Path, document: Document) -> _Said:
    text = document.texts.get(path, str(value))
    reading = "true or false" if isinstance(value, bool) else "a number"
    why = f"without quotes it reads as {reading}, and text is needed"
    fix = f'write "{text}"'
    if path == ("cluster", "kubernetesVersion"):
        fix = 'write all three parts, as in "1.37.2"'
    return _Said("inventory-unquoted-text", f"{shown(text)} is not text", why, fix)


def _mapping_for_arguments(value: Mapping[str, object]) -> _Said:
    name, argument = next(iter(value.items()))
    why = "as in kubeadm v1beta4 it is a list: a flag may be given twice, and order counts"
    fix = f'write - {{name: {name}, value: "{argument}"}}'
    return _Said("inventory-args-mapping", "the arguments are a mapping", why, fix)


_NEEDED = {
    "bool_type": ("true or false", "write true or false, without quotes"),
    "int_type": ("a whole number", "write digits without quotes"),
    "int_from_float": ("a whole number", "write digits without quotes"),
    "string_type": ("text", "write a single value"),
    "literal_error": ("text", "write a single value"),
    "tuple_type": ("a list", "begin each entry with a dash"),
    "dict_type": ("a mapping", "write keys and values"),
    "model_type": ("a mapping", "write keys and values"),
    "model_attributes_type": ("a mapping", "write keys and values"),
}


def _choice(value: object, expected: str) -> _Said:
    choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
    guess = _nearest(str(value), choices)
    listed = ", ".join(choice or '""' for choice in choices)
    fix = f"did you mean {shown(guess)}?" if guess else "choose one of these"
    return _Said("inventory-bad-choice", f"{shown(value)} is not a choice", f"it must be one of {listed}", fix)


def _with_hooks(
    inventory: Inventory, name: str, folder: Path, document: Document, findings: list[Finding]
) -> Inventory:
    """Read the scripts of hooks, and note where each hook stands; mistakes join `findings`."""
    hooks = []
    for index, hook in enumerate(inventory.cluster.hooks):
        path = ("cluster", "hooks", index, "run")
        place = document.place(path)
        program = dataclasses.replace(hook.run, place=f"{name}:{place.line}")
        if program.path:
            file = folder / program.path
            try:
                program = program.read(str(file), _content(file))
            except OSError as error:
                what = f"{program.path} cannot be read: {error.strerror or error}"
                why = "scripts of hooks are looked for from the inventory's folder"
                fix = "correct the name, or write the command as a list of words"
                findings.append(Finding("inventory-bad-hook", place, path, what, why, fix))
        hooks.append(hook.model_copy(update={"run": program}))
    cluster = inventory.cluster.model_copy(update={"hooks": tuple(hooks)})
    return inventory.model_copy(update={"cluster": cluster})


def _with_patches(
    inventory: Inventory, named: Path, folder: Path, document: Document, findings: list[Finding]
) -> Inventory:
    """Read the folders of patches, which messages call as seen from `named`; mistakes join `findings`."""
    known: dict[str, Patches] = {}

    def told(file: Path) -> str:
        return str(named / file.relative_to(folder) if file.is_relative_to(folder) else file)

    def filled(patches: Patches, path: yamlfile.Path) -> Patches:
        if patches.directory not in known:
            known[patches.directory], wrong = _patches(Path(patches.directory), told, document.place(path))
            findings.extend(wrong)
        return known[patches.directory]

    cluster = inventory.cluster
    if cluster.patches is not None:
        cluster = cluster.model_copy(update={"patches": filled(cluster.patches, ("cluster", "patches"))})
    hosts = []
    for index, host in enumerate(inventory.hosts):
        kept = host
        if host.patches is not None:
            patches = filled(host.patches, ("hosts", index, "patches"))
            findings.extend(_idle_patches(patches, host, inventory, document.place(("hosts", index, "patches"))))
            kept = host.model_copy(update={"patches": patches})
        hosts.append(kept)
    return inventory.model_copy(update={"cluster": cluster, "hosts": tuple(hosts)})


def _patches(directory: Path, told: Callable[[Path], str], place: Place) -> tuple[Patches, list[Finding]]:
    found: list[tuple[str, str, bytes]] = []
    wrong: list[Finding] = []

    def refuse(file: Path, what: str, why: str, fix: str) -> None:
        wrong.append(Finding("inventory-bad-patch", place, (), f"{told(file)} {what}", why, fix))

    try:
        files = sorted(directory.iterdir())
    except OSError as error:
        files = []
        why = "a folder of patches is looked for from the inventory's folder"
        refuse(directory, f"cannot be read: {error.strerror or error}", why, "correct the name, or remove the line")
    for file in files:
        if file.is_dir():
            why = "what is in it would be passed over"
            refuse(file, "is a folder in a folder of patches", why, "move its files up, or it elsewhere")
        elif patchfiles.is_patch(file):
            try:
                found.append((file.name, told(file), _content(file)))
            except OSError as error:
                refuse(file, f"cannot be read: {error.strerror or error}", "", "mend it, or remove it")
    patches, mistakes = patchfiles.read(found)
    return Patches(str(directory), tuple(patches)), [*wrong, *mistakes]


def _idle_patches(patches: Patches, host: Host, inventory: Inventory, place: Place) -> Iterator[Finding]:
    """Find patches of a host of what the host does not have."""
    able = {patching.KUBELET}
    able |= set(patching.PODS) - {"etcd"} if host.is_control_plane else set()
    able |= {"etcd"} if host in inventory.etcd_members else set()
    for file, target in dict.fromkeys((patch.file, patch.target) for patch in patches.all):
        if target in {patching.COREDNS, patching.KUBE_PROXY}:
            what = f"{file} is a patch of the host {host.name}, and {target} is one for all hosts"
            fix = "move it into the folder of cluster.patches"
            yield Finding("inventory-unused", place, (), what, "it would do nothing", fix)
        elif target not in able:
            what = f"{file} is a patch of the host {host.name}, which has no {target}"
            yield Finding("inventory-unused", place, (), what, "it would do nothing", "remove it")


def _registries(
    given: Registries, resolved: Callable[[str, yamlfile.Path], str], document: Document, findings: list[Finding]
) -> Registries:
    """Read the files that `given` names; mistakes in them join `findings`."""
    files: dict[str, object] = {}
    if given.auth_file is not None:
        from bootstrap.bundle import credentials

        path = ("cluster", "registries", "authFile")
        file = resolved(given.auth_file.path, path)
        try:
            known = credentials.read(Path(file), name=given.auth_file.path).logins
        except ConfigError as error:
            findings.append(Finding("inventory-bad-path", document.place(path), path, str(error)))
        else:
            # containerd knows Docker's registry by the name that images have
            headers = {credentials.image_host(host): login.basic for host, login in known.items() if login.basic}
            files["auth_file"] = Logins(file, headers)
    if given.ca_file is not None:
        path = ("cluster", "registries", "caFile")
        files["ca_file"] = _authorities(given.ca_file, path, resolved, document, findings)
    return given.model_copy(update=files)


def _authorities(
    given: LocalFile,
    path: yamlfile.Path,
    resolved: Callable[[str, yamlfile.Path], str],
    document: Document,
    findings: list[Finding],
) -> LocalFile:
    """Read the file of CAs (PEM) that `given` names; mistakes in it join `findings`."""
    file = resolved(given.path, path)
    try:
        data = _content(Path(file))
    except OSError as error:
        what = f"{shown(given.path)} cannot be read: {error.strerror or error}"
        findings.append(Finding("inventory-bad-path", document.place(path), path, what))
        return given
    if b"-----BEGIN CERTIFICATE-----" not in data or b"PRIVATE KEY-----" in data:
        what = f"{shown(given.path)} is no file of certificates alone (PEM)"
        findings.append(Finding("inventory-bad-path", document.place(path), path, what))
    return LocalFile(file, data)


def _with_absolute_files(inventory: Inventory, folder: Path, document: Document) -> tuple[Inventory, list[Finding]]:
    """Resolve the operator's own files against `folder`."""
    findings: list[Finding] = []

    def resolved(text: str, path: yamlfile.Path) -> str:
        try:
            return str(folder / Path(text).expanduser())
        except RuntimeError:
            what = f"{shown(text)} names the home of a user that this machine does not know"
            fix = "write the whole path"
            findings.append(Finding("inventory-bad-path", document.place(path), path, what, "", fix))
            return text

    def logins(ssh: HostSsh, path: yamlfile.Path) -> dict[str, str]:
        keys = {
            "identity_file": "identityFile",
            "known_hosts_file": "knownHostsFile",
            "sudo_password_file": "sudoPasswordFile",
        }
        files = {name: getattr(ssh, name) for name in keys}
        return {name: resolved(text, (*path, keys[name])) for name, text in files.items() if text is not None}

    cluster = inventory.cluster
    found: dict[str, object] = {}
    if cluster.bundle.path is not None:
        found["path"] = resolved(cluster.bundle.path, ("cluster", "bundle", "path"))
    if cluster.bundle.ca_file is not None:
        place = ("cluster", "bundle", "caFile")
        found["ca_file"] = _authorities(cluster.bundle.ca_file, place, resolved, document, findings)
    cluster = cluster.model_copy(update={"bundle": cluster.bundle.model_copy(update=found)})
    if cluster.patches is not None:
        patches = Patches(resolved(cluster.patches.directory, ("cluster", "patches")))
        cluster = cluster.model_copy(update={"patches": patches})
    if cluster.certificate_authority.kind == "operator":
        given_directory = cluster.certificate_authority.directory
        directory = resolved(given_directory, ("cluster", "certificateAuthority", "directory"))
        authority = cluster.certificate_authority.model_copy(update={"directory": directory})
        cluster = cluster.model_copy(update={"certificate_authority": authority})
    if cluster.etcd.external is not None:
        place = ("cluster", "etcd", "external")
        given = cluster.etcd.external
        files = {
            "ca_file": resolved(given.ca_file, (*place, "caFile")),
            "cert_file": resolved(given.cert_file, (*place, "certFile")),
            "key_file": resolved(given.key_file, (*place, "keyFile")),
        }
        external = given.model_copy(update=files)
        cluster = cluster.model_copy(update={"etcd": cluster.etcd.model_copy(update={"external": external})})
    cluster = cluster.model_copy(update={"registries": _registries(cluster.registries, resolved, document, findings)})
    hosts = []
    for index, host in enumerate(inventory.hosts):
        changed = logins(host.ssh, ("hosts", index, "ssh"))
        known = host.model_copy(update={"ssh": host.ssh.model_copy(update=changed)}) if changed else host
        if known.patches is not None:
            directory = resolved(known.patches.directory, ("hosts", index, "patches"))
            known = known.model_copy(update={"patches": Patches(directory)})
        hosts.append(known)
    ssh = inventory.ssh.model_copy(update=logins(inventory.ssh, ("ssh",)))
    return inventory.model_copy(update={"cluster": cluster, "ssh": ssh, "hosts": tuple(hosts)}), findings
