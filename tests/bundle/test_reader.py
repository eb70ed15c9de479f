from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from fake_bundle import VERSION, pack, put, write_bundle

from bootstrap.bundle import Bundle, cache, manifest, open_bundle
from bootstrap.bundle.manifest import Manifest
from bootstrap.bundle.reader import BundleError
from bootstrap.errors import ConfigError


@pytest.fixture(params=["folder", "tar"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def bundle_at(folder: Path, form: str) -> Path:
    return folder if form == "folder" else pack(folder, folder.parent / "bundle.tar")


def opened(path: Path | None) -> Bundle:
    return open_bundle(path, kubernetes_version=VERSION)


def kubelet(made: Manifest) -> str:
    return manifest.blob(next(listed.sha256 for listed in made.files if listed.name == "kubelet"))


def refused(path: Path) -> str:
    with pytest.raises(BundleError) as error:
        opened(path)
    assert error.value.exit_code == 3
    return str(error.value)


def test_a_whole_bundle_gives_its_contents_and_blobs(tmp_path: Path, form: str) -> None:
    made = write_bundle(tmp_path / "bundle")
    bundle = opened(bundle_at(tmp_path / "bundle", form))
    assert bundle.contents == made.contents
    for artifact in (*bundle.contents.binaries, *bundle.contents.images):
        with bundle.open(artifact.digest) as blob:
            assert hashlib.sha256(blob.read()).hexdigest() == artifact.digest


def test_two_readers_of_one_blob_do_not_disturb_each_other(tmp_path: Path, form: str) -> None:
    write_bundle(tmp_path / "bundle")
    bundle = opened(bundle_at(tmp_path / "bundle", form))
    digest = bundle.contents.image("etcd").digest
    with bundle.open(digest) as one, bundle.open(digest) as other:
        assert one.read(3) == other.read(3) == b"ima"
        assert one.read() == other.read() == b"ge etcd"


def test_a_blob_can_be_read_again_from_the_start(tmp_path: Path, form: str) -> None:
    write_bundle(tmp_path / "bundle")
    bundle = opened(bundle_at(tmp_path / "bundle", form))
    with bundle.open(bundle.contents.image("etcd").digest) as blob:
        first = blob.read()
        blob.seek(0)
        assert blob.read() == first


def test_a_digest_that_is_not_listed_cannot_be_opened(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    with pytest.raises(KeyError):
        opened(tmp_path / "bundle").open("0" * 64)


def test_without_a_path_the_bundle_is_in_the_cache(cache_folder: Path) -> None:
    made = write_bundle(cache_folder / "bundles" / f"{VERSION}-linux-amd64")
    assert opened(None).contents == made.contents


def test_a_missing_bundle_says_how_to_make_one() -> None:
    with pytest.raises(ConfigError, match="kubestrap bundle build"):
        opened(None)


def test_f30_a_truncated_blob_is_named(tmp_path: Path, form: str) -> None:
    name = kubelet(write_bundle(tmp_path / "bundle"))
    (tmp_path / "bundle" / name).write_bytes(b"prog")
    assert f"{name} (binary kubelet) has 4 bytes, not 15" in refused(bundle_at(tmp_path / "bundle", form))


def test_f30_an_altered_blob_is_named(tmp_path: Path, form: str) -> None:
    name = kubelet(write_bundle(tmp_path / "bundle"))
    (tmp_path / "bundle" / name).write_bytes(b"programme kubel")
    assert f"{name} (binary kubelet) is damaged or altered" in refused(bundle_at(tmp_path / "bundle", form))


def test_a_missing_blob_is_named(tmp_path: Path, form: str) -> None:
    name = kubelet(write_bundle(tmp_path / "bundle"))
    (tmp_path / "bundle" / name).unlink()
    assert f"{name} (binary kubelet) is missing" in refused(bundle_at(tmp_path / "bundle", form))


def test_every_damaged_blob_is_named_at_once(tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "bundle")
    for listed in made.files[:3]:
        (tmp_path / "bundle" / manifest.blob(listed.sha256)).write_bytes(b"x" * listed.size)
    text = refused(tmp_path / "bundle")
    assert all(listed.name in text for listed in made.files[:3])


def test_a_blob_altered_after_it_was_found_good_is_refused(tmp_path: Path, form: str) -> None:
    name = kubelet(write_bundle(tmp_path / "bundle"))
    path = bundle_at(tmp_path / "bundle", form)
    opened(path)
    file = path if form == "tar" else path / name
    data = file.read_bytes().replace(b"program kubelet", b"program KUBELET")
    file.write_bytes(data)
    os.utime(file, ns=(1, 1))
    assert "is damaged or altered" in refused(path)


def test_a_tar_cut_off_in_its_last_blob_is_refused(tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "bundle")
    path = pack(tmp_path / "bundle", tmp_path / "bundle.tar")
    last = max(listed.sha256 for listed in made.files)
    data = path.read_bytes()
    cut = data.index((tmp_path / "bundle" / manifest.blob(last)).read_bytes())
    path.write_bytes(data[: cut + 3])
    assert last in refused(path) or "not a whole" in refused(path)


@pytest.mark.parametrize("data", [b"", b"not a tar at all" * 100])
def test_a_file_that_is_not_a_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bundle.tar"
    path.write_bytes(data)
    refused(path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert "manifest.json is missing" in refused(tmp_path)


def test_another_version_of_kubernetes_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", version="1.36.3")
    assert f"it holds Kubernetes 1.36.3; {VERSION} is asked for" in refused(tmp_path / "bundle")


def test_another_platform_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", platform="linux/arm64")
    assert "it is for linux/arm64; linux/amd64 is asked for" in refused(tmp_path / "bundle")


def test_blobs_found_good_are_not_read_again(tmp_path: Path, form: str) -> None:
    made = write_bundle(tmp_path / "bundle")
    path = bundle_at(tmp_path / "bundle", form)
    lines: list[str] = []
    open_bundle(path, kubernetes_version=VERSION, listener=lines.append)
    assert len(lines) == len(made.files)
    open_bundle(path, kubernetes_version=VERSION, listener=lines.append)
    assert len(lines) == len(made.files)


def test_only_a_blob_that_changed_is_read_again(tmp_path: Path) -> None:
    name = kubelet(write_bundle(tmp_path / "bundle"))
    opened(tmp_path / "bundle")
    os.utime(tmp_path / "bundle" / name, ns=(1, 1))
    lines: list[str] = []
    open_bundle(tmp_path / "bundle", kubernetes_version=VERSION, listener=lines.append)
    assert [line for line in lines if "kubelet" in line] == lines
    assert len(lines) == 1


def test_damaged_memory_of_good_blobs_only_means_reading_them_again(tmp_path: Path, cache_folder: Path) -> None:
    write_bundle(tmp_path / "bundle")
    opened(tmp_path / "bundle")
    for file in (cache_folder / "verified").iterdir():
        file.write_text('{"a": 5}')
    assert cache.recall(tmp_path / "bundle") == {}
    opened(tmp_path / "bundle")


def test_verify_reads_every_file(tmp_path: Path, form: str) -> None:
    made = write_bundle(tmp_path / "bundle")
    bundle = opened(bundle_at(tmp_path / "bundle", form))
    lines: list[str] = []
    bundle.verify(lines.append)
    assert len(lines) == len(made.files)


def test_verify_names_a_file_that_is_not_listed(tmp_path: Path, form: str) -> None:
    write_bundle(tmp_path / "bundle")
    digest = put(tmp_path / "bundle", b"something else")
    bundle = opened(bundle_at(tmp_path / "bundle", form))
    with pytest.raises(BundleError, match=f"{digest}: the manifest does not list it"):
        bundle.verify()
