r"""What makes a control plane not come up, as a table: the line that gives it away, what it means, what to do.

Patterns are POSIX extended regular expressions that Python reads alike (no `\d`, no `\b`, no lazy repeats): `grep -E`
uses them on the machine, where an API server that could be asked is what is missing. Each was met as a real line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SETTINGS = {
    "etcd": "cluster.etcd.local",
    "kube-apiserver": "cluster.apiServer",
    "kube-controller-manager": "cluster.controllerManager",
    "kube-scheduler": "cluster.scheduler",
    "kubelet": "cluster.kubelet",
    "containerd": "cluster.containerd",
}
"""Where the inventory has the settings of each component."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause. `meaning` completes a sentence about the component, `fix` says what to do.

    In both, `{0}`, `{1}` are the pattern's groups that matched, and `{settings}` is the component's place in the
    inventory. Only where it is `certain` does nothing come right by waiting on: what ends so twice ends so for ever.
    """

    id: str
    pattern: str
    meaning: str
    fix: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """A cause, found in `line` of a component's log."""

    cause: Cause
    line: str
    meaning: str
    fix: str


_FLAG = "correct {settings}.extraArgs in the inventory and run the command again"
_CONFIGURATION = "correct {settings}.config (or a host's kubelet.config) in the inventory and run the command again"
_CERTIFICATES = "make the certificate and its CA belong together: see the paths in its flags and kubeconfig"

CAUSES: tuple[Cause, ...] = (
    # flags
    Cause("unknown-flag", 'unknown flag: (--[^ "]+)', "it does not know the flag {0}", _FLAG),
    Cause("unknown-flag", "flag provided but not defined: (-[^ ]+)", "it does not know the flag -{0}", _FLAG),
    Cause(
        "bad-flag-value",
        r'invalid argument \\?"([^"]*)" for \\?"([^"]*)" flag',
        "it refuses {0} as value of {1}",
        _FLAG,
    ),
    Cause("bad-flag-value", 'invalid value "([^"]*)" for flag (-[^: ]+)', "it refuses {0} as value of -{1}", _FLAG),
    Cause("bad-flag-value", 'failed to verify flags","error":"([^"]*)"', "it refuses its flags: {0}", _FLAG),
    Cause(
        "unknown-feature-gate",
        "unrecognized feature gate: ([A-Za-z0-9]+)",
        "it does not know the feature gate {0}",
        "take {0} out of {settings} in the inventory (extraArgs or config) and run the command again",
    ),
    # certificates
    Cause(
        "certificate-name",
        r'x509: certificate is valid for ([^"\\]*), not ([^" \\]+)',
        "a certificate is valid for {0}, not for {1}",
        "remove that certificate and its key and run the command again: it makes them anew for the right names",
    ),
    Cause(
        "certificate-expired",
        "x509: certificate has expired or is not yet valid",
        "a certificate has expired, or the machine's clock is wrong",
        "look at the clock; then remove the certificate and its key and run the command again",
    ),
    Cause(
        "certificate-authority",
        "x509: certificate signed by unknown authority",
        "it meets a certificate that its CA did not sign",
        _CERTIFICATES,
    ),
    Cause(
        "certificate-refused",
        "remote error: tls: (unknown certificate authority|bad certificate|certificate required)",
        "its own certificate is refused ({0})",
        _CERTIFICATES,
    ),
    Cause(
        "certificate-key",
        "private key does not match public key",
        "a certificate and its key do not belong together",
        "remove both and run the command again: it makes them anew",
    ),
    Cause(
        "certificate-unreadable",
        "(failed to find any PEM data|does not contain any valid RSA or ECDSA certificates|x509: malformed [a-z]+)",
        "a certificate or key cannot be read: {0}",
        "remove the file and run the command again: it makes it anew",
    ),
    # what it finds on the machine
    Cause(
        "port-taken",
        r"listen (tcp[46]? [^ ]*): bind: address already in use",
        "its port is taken: {0}",
        "stop the other program and run the command again",
    ),
    Cause(
        "disk-full",
        "no space left on device",
        "a disk is full",
        "make room and run the command again",
    ),
    Cause(
        "etcd-no-space",
        "(mvcc: database space exceeded|alarm:NOSPACE)",
        "etcd's database has reached its quota (alarm NOSPACE) and takes no more writes",
        "compact and defragment it, then `etcdctl alarm disarm`; or raise quota-backend-bytes in its extraArgs",
    ),
    Cause(
        "etcd-data-lost",
        "member ([0-9a-f]+) has already been bootstrapped",
        "its data are gone, and the other members know it (as {0}): it does not begin anew beside them",
        "`kubestrap join` takes it in again as a new member, with the data of the others, which go on without it",
    ),
    Cause(
        "etcd-data",
        "(cannot access data directory: [^\"]*|couldn't find local name [^ ]* in the initial cluster configuration"
        "|tocommit[(][0-9]+[)] is out of range)",
        "its data and its configuration do not go together: {0}",
        "bring back the data, or reset the host and run the command again",
    ),
    Cause(
        "file-missing",
        '(command failed|listener failed)"?[ ,].*(open|stat) ([^ :]+): no such file or directory',
        "the file {2} is missing",
        "put it there (as an extraVolume, where the path is yours), or correct {settings} in the inventory",
    ),
    Cause(
        "file-forbidden",
        '(command failed|listener failed)"?[ ,].*(open|stat) ([^ :]+): permission denied',
        "it may not read the file {2}",
        "correct its owner and mode",
    ),
    # the kubelet
    Cause(
        "cgroup-v1",
        "kubelet is configured to not run on a host using cgroup v1",
        "it does not run on cgroup v1",
        "boot with systemd.unified_cgroup_hierarchy=1, or set failCgroupV1: false in {settings}.config",
    ),
    Cause(
        "swap",
        "running with swap on is not supported",
        "swap is on",
        "turn it off (swapoff -a), or set failSwapOn: false in {settings}.config",
    ),
    Cause(
        "cgroup-driver",
        '(expected cgroupsPath to be of format [^,]*|kubelet cgroup driver: [^ ]+ is different from [^"]*)',
        "kubelet and containerd use different cgroup drivers",
        "let both use systemd: cgroupDriver of the kubelet's configuration, SystemdCgroup of containerd's",
    ),
    Cause(
        "runtime-without-cri",
        "unknown service runtime.v1.RuntimeService",
        "containerd runs without its CRI plug-in",
        "take cri out of disabled_plugins in cluster.containerd.config and run the command again",
    ),
    Cause(
        "kubelet-configuration",
        "failed to validate kubelet configuration, error: (.*), path: &TypeMeta",
        "it refuses its configuration: {0}",
        _CONFIGURATION,
    ),
    Cause(
        "kubelet-configuration",
        "failed to load Kubelet config file [^ ]+, error (.*)",
        "it cannot read its configuration: {0}",
        _CONFIGURATION,
    ),
    # not certain: each of these is also how a component says that another one is not there yet
    Cause(
        "image-missing",
        "with (ErrImagePull|ImagePullBackOff|ErrImageNeverPull|ErrInvalidImageName)",
        "its image is not on the machine and cannot be pulled",
        "run the command without skipping prepare/images, which brings the images of the bundle",
        certain=False,
    ),
    Cause(
        "runtime-absent",
        r"dial unix (/[^ ]*containerd\.sock): connect: [a-z ]+",
        "containerd does not answer",
        "look at its journal: journalctl -u containerd",
        certain=False,
    ),
    Cause(
        "kubelet-start",
        "failed to run Kubelet: (.*)",
        "it does not start: {0}",
        _CONFIGURATION,
        certain=False,
    ),
    Cause(
        "etcd-absent",
        "etcd grpc connection not ready: context deadline exceeded",
        "it does not reach etcd",
        "look at etcd first, then at etcd-servers and the certificates in {settings}.extraArgs",
        certain=False,
    ),
    Cause(
        "apiserver-absent",
        "(failed to wait for apiserver being healthy|dial tcp [^ ]*: connect: connection refused)",
        "it does not reach what it depends on",
        "look at what listens there first",
        certain=False,
    ),
)


def certain() -> str:
    """Give one regular expression for every line that leaves no hope."""
    return "|".join(cause.pattern for cause in CAUSES if cause.certain)


def known() -> str:
    """Give one regular expression for every line that the table knows."""
    return "|".join(cause.pattern for cause in CAUSES)


def find(component: str, lines: Iterable[str]) -> Match | None:
    """Find what the table says of a component by the lines of its log: the first cause in its order that matches."""
    kept = list(lines)
    for cause in CAUSES:
        for line in reversed(kept):
            found = re.search(cause.pattern, line)
            if found:
                groups = [(group or "").strip('\\" ') for group in found.groups()]
                settings = SETTINGS.get(component, "cluster")
                meaning = cause.meaning.format(*groups, settings=settings)
                return Match(cause, line, meaning, cause.fix.format(*groups, settings=settings))
    return None
