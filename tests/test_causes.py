"""Lines as the components of Kubernetes 1.37.2, etcd 3.7.3 and the kubelet really wrote them."""

from __future__ import annotations

import re
import subprocess

import pytest

from bootstrap import causes

ETCD = '{"level":"%s","ts":"2026-11-26T15:28:09.395665Z","caller":"etcdmain/etcd.go:172",%s}'
FAILED = 'E1126 15:25:00.255789   23002 run.go:72] "command failed" err="%s"'
GRPC = (
    "W1126 15:25:45.360937   26547 logging.go:55] [core] [Channel #4 SubChannel #5] grpc: addrConn.createTransport "
    'failed to connect to {Addr: "127.0.0.1:22379", ServerName: "127.0.0.1:22379", }. Err: connection error: '
    'desc = "%s"'
)
HANDSHAKE = GRPC % "transport: authentication handshake failed: tls: failed to verify certificate: x509: %s"

ELECTION = "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[1000ms]"
DATA = "cannot access data directory: mkdir /proc/nope: no such file or directory"

LINES = [
    ("unknown-flag", "kube-apiserver", "Error: unknown flag: --nonsense", "it does not know the flag --nonsense"),
    ("unknown-flag", "etcd", "flag provided but not defined: -nonsense", "it does not know the flag --nonsense"),
    (
        "bad-flag-value",
        "kube-scheduler",
        'Error: invalid argument "maybe" for "--leader-elect" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        "it refuses maybe as value of --leader-elect",
    ),
    (
        "bad-flag-value",
        "etcd",
        'invalid value "abc" for flag -heartbeat-interval: parse error',
        "it refuses abc as value of --heartbeat-interval",
    ),
    (
        "bad-flag-value",
        "etcd",
        ETCD % ("warn", f'"msg":"failed to verify flags","error":"{ELECTION}"'),
        f"it refuses its flags: {ELECTION}",
    ),
    (
        "unknown-feature-gate",
        "kube-scheduler",
        FAILED % "unrecognized feature gate: Nonsense",
        "it does not know the feature gate Nonsense",
    ),
    (
        "certificate-name",
        "kube-apiserver",
        HANDSHAKE % "certificate is valid for 10.9.9.9, not 127.0.0.1",
        "a certificate is valid for 10.9.9.9, not for 127.0.0.1",
    ),
    (
        "certificate-authority",
        "kube-apiserver",
        HANDSHAKE % "certificate signed by unknown authority",
        "it meets a certificate that its CA did not sign",
    ),
    (
        "certificate-refused",
        "kube-apiserver",
        GRPC % "error reading server preface: remote error: tls: unknown certificate authority",
        "its own certificate is refused (unknown certificate authority)",
    ),
    (
        "certificate-key",
        "kube-apiserver",
        FAILED % "tls: private key does not match public key",
        "a certificate and its key do not belong together",
    ),
    (
        "certificate-unreadable",
        "kube-apiserver",
        FAILED % "tls: failed to find any PEM data in certificate input",
        "a certificate or key cannot be read: failed to find any PEM data",
    ),
    (
        "file-missing",
        "kube-scheduler",
        FAILED % "stat /nonexist: no such file or directory",
        "the file /nonexist is missing",
    ),
    (
        "file-missing",
        "etcd",
        ETCD % ("fatal", '"msg":"listener failed","error":"open nowhere: no such file or directory"'),
        "the file nowhere is missing",
    ),
    (
        "etcd-data",
        "etcd",
        ETCD % ("fatal", f'"msg":"discovery failed","error":"{DATA}"'),
        f"its data and its configuration do not go together: {DATA}",
    ),
    (
        "etcd-data-lost",
        "etcd",
        ETCD % ("fatal", '"msg":"discovery failed","error":"member 2d6a3c3b4b36cfef has already been bootstrapped"'),
        "its data are gone, and the other members know it (as 2d6a3c3b4b36cfef): it does not begin anew beside them",
    ),
    (
        "cgroup-v1",
        "kubelet",
        FAILED
        % (
            "failed to validate kubelet configuration, error: kubelet is configured to not run on a host using "
            "cgroup v1. cgroup v1 support is unsupported and will be removed in a future release, path: &TypeMeta{}"
        ),
        "it does not run on cgroup v1",
    ),
    (
        "kubelet-configuration",
        "kubelet",
        FAILED
        % (
            "failed to validate kubelet configuration, error: invalid configuration: maxPods (--max-pods) -5 must not "
            "be a negative number, path: &TypeMeta{Kind:,APIVersion:,}"
        ),
        "it refuses its configuration: invalid configuration: maxPods (--max-pods) -5 must not be a negative number",
    ),
    (
        "kubelet-configuration",
        "kubelet",
        FAILED
        % (
            "failed to load kubelet config file, path: /k.yaml, error: failed to load Kubelet config file /k.yaml, "
            "error failed to decode: json: cannot unmarshal string into Go struct field .failCgroupV1 of type bool"
        ),
        (
            "it cannot read its configuration: "
            "failed to decode: json: cannot unmarshal string into Go struct field .failCgroupV1 of type bool"
        ),
    ),
    (
        "unknown-feature-gate",
        "kubelet",
        "panic: failed to merge global and in-flight KubeletConfiguration, error: unrecognized feature gate: Nonsense",
        "it does not know the feature gate Nonsense",
    ),
    (
        "runtime-absent",
        "kubelet",
        FAILED
        % (
            r"failed to run Kubelet: validate service connection: validate CRI v1 runtime API for endpoint \"unix:///run/"
            r"containerd/containerd.sock\": rpc error: code = Unavailable desc = connection error: desc = \"transport: "
            r"Error while dialing: dial unix /run/containerd/containerd.sock: connect: no such file or directory\""
        ),
        "containerd does not answer",
    ),
    (
        "kubelet-start",
        "kubelet",
        FAILED % "failed to run Kubelet: quantities must match the regular expression '^([+-]?[0-9.]+)$'",
        "it does not start: quantities must match the regular expression '^([+-]?[0-9.]+)$'",
    ),
    (
        "etcd-absent",
        "kube-apiserver",
        FAILED % "error creating storage factory: etcd grpc connection not ready: context deadline exceeded",
        "it does not reach etcd",
    ),
    (
        "apiserver-absent",
        "kube-apiserver",
        GRPC % "transport: Error while dialing: dial tcp 127.0.0.1:22379: connect: connection refused",
        "it does not reach what it depends on",
    ),
]


@pytest.mark.parametrize(("identifier", "component", "line", "meaning"), LINES)
def test_a_line_gives_its_cause_away(identifier: str, component: str, line: str, meaning: str) -> None:
    found = causes.find(component, ["I1126 15:25:00.000000 1 serving.go:411] something else", line])
    assert found
    assert (found.cause.id, found.meaning, found.line) == (identifier, meaning, line)


@pytest.mark.parametrize(("identifier", "component", "line", "meaning"), LINES)
def test_grep_on_a_machine_reads_the_patterns_alike(identifier: str, component: str, line: str, meaning: str) -> None:
    certain = next(cause for cause in causes.CAUSES if cause.id == identifier).certain
    for pattern, expected in ((causes.known(), True), (causes.certain(), certain)):
        ran = subprocess.run(["grep", "-E", "-e", pattern], input=line, capture_output=True, text=True, check=False)
        assert ((ran.returncode == 0), ran.stderr) == (expected, "")


@pytest.mark.parametrize("cause", causes.CAUSES, ids=lambda cause: cause.id)
def test_patterns_hold_nothing_that_only_python_knows(cause: causes.Cause) -> None:
    assert not re.search(r"\\[dwsbDWSB]|\(\?|[*+]\?", cause.pattern)


@pytest.mark.parametrize("cause", causes.CAUSES, ids=lambda cause: cause.id)
def test_every_cause_says_what_to_do(cause: causes.Cause) -> None:
    groups = re.compile(cause.pattern).groups
    named = {int(number) for number in re.findall(r"\{([0-9]+)\}", cause.meaning + cause.fix)}
    assert not named or max(named) < groups
    assert cause.fix


def test_what_fails_for_certain_goes_before_what_may_pass() -> None:
    order = [cause.certain for cause in causes.CAUSES]
    assert order == sorted(order, reverse=True)


def test_a_line_of_no_known_kind_has_no_cause() -> None:
    assert causes.find("etcd", ["all is well"]) is None


def test_the_fix_names_the_place_in_the_inventory() -> None:
    found = causes.find("etcd", ["flag provided but not defined: -nonsense"])
    assert found
    assert "cluster.etcd.local.extraArgs" in found.fix
