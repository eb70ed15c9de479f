"""`kubestrap bundle`: make, show and check bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bootstrap.options import OutputOption

if TYPE_CHECKING:
    from bootstrap.bundle import Bundle
    from bootstrap.output import Output

app = typer.Typer(
    no_args_is_help=True, help="Everything a machine needs for one Kubernetes version: make, show, check."
)

BundlePath = Annotated[
    Path | None, typer.Argument(metavar="[PATH]", help="A bundle's folder or file. Default: the one in the cache.")
]

To = Annotated[
    Path | None,
    typer.Option("--to", metavar="PATH", help="Where to: a folder, or one file (.tar). Default: the cache."),
]


@app.command()
def build(
    origin: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="Copy this bundle (folder or file) instead of building from source."
        ),
    ] = None,
    to: To = None,
    *,
    output: OutputOption,
) -> None:
    """Make a bundle from pinned Go modules, or from another bundle.

    The first build from source takes about 25 minutes on two cores, later ones seconds.
    """
    from bootstrap.bundle.build import build as build_bundle
    from bootstrap.bundle.existing import ExistingBundle
    from bootstrap.bundle.gomodules import GoModules
    from bootstrap.bundle.source import Source

    source: Source = GoModules() if origin is None else ExistingBundle(origin)
    _tell(build_bundle(source, to, output.note), output)


@app.command()
def create(
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="official, the URL of a mirror, or go-modules; of several the first that answers. "
            "Default: official, then go-modules.",
        ),
    ] = None,
    registry: Annotated[
        str,
        typer.Option("--registry", metavar="URL", help="The mirror's registry, where it is not at the mirror's host."),
    ] = "",
    auth_file: Annotated[
        Path | None,
        typer.Option(
            "--auth-file",
            metavar="FILE",
            help="Logins of servers, as Docker's config.json has them. Default: that of the user.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", metavar="FILE", help="CAs (PEM) to trust besides those of this machine."),
    ] = None,
    platform: Annotated[
        str, typer.Option("--platform", metavar="PLATFORM", help="What the machines are: linux/amd64 or linux/arm64.")
    ] = "linux/amd64",
    lock: Annotated[
        Path,
        typer.Option("--lock", metavar="FILE", help="Digests of what was downloaded before, which must come again."),
    ] = Path("bundle.lock.json"),
    to: To = None,
    *,
    output: OutputOption,
) -> None:
    """Make a bundle from what the projects publish, or a mirror of that; where neither answers, from source."""
    from bootstrap.bundle import credentials
    from bootstrap.bundle.build import build as build_bundle
    from bootstrap.bundle.download import Client
    from bootstrap.bundle.source import choose
    from bootstrap.bundle.sources import named

    client = Client(credentials.read(auth_file), ca=ca_file, progress=output.note)
    source = choose(named(sources or ["official", "go-modules"], client, lock, platform, registry), output.note)
    _tell(build_bundle(source, to, output.note), output)


@app.command()
def show(path: BundlePath = None, *, output: OutputOption) -> None:
    """List what a bundle holds."""
    from bootstrap.bundle import open_bundle
    from bootstrap.bundle.manifest import BinaryFile
    from bootstrap.report import table

    bundle = open_bundle(path, kubernetes_version=None, platform=None, listener=output.note)
    data = {
        "path": str(bundle.path),
        "kubernetesVersion": bundle.manifest.kubernetes_version,
        "platform": bundle.manifest.platform,
        "files": [
            {
                "kind": listed.kind,
                "name": listed.name,
                "version": listed.version,
                "size": listed.size,
                "sha256": listed.sha256,
                "goesTo": listed.path if isinstance(listed, BinaryFile) else listed.reference,
            }
            for listed in bundle.manifest.files
        ],
    }
    rows = [("KIND", "NAME", "VERSION", "SIZE", "SHA-256", "GOES TO")]
    for listed in bundle.manifest.files:
        place = listed.path if isinstance(listed, BinaryFile) else listed.reference
        size = f"{listed.size / 1e6:.1f} MB"
        rows.append((listed.kind, listed.name, listed.version, size, listed.sha256[:12], place))
    lines = [f"Kubernetes {bundle.manifest.kubernetes_version} for {bundle.manifest.platform}: {bundle.path}", ""]
    lines += table(rows)
    output.result(data, "\n".join(lines))


@app.command()
def images(path: BundlePath = None, *, output: OutputOption) -> None:
    """List the images of a bundle, one reference a line: what a registry of your own may have, too."""
    from bootstrap.bundle import open_bundle

    found = open_bundle(path, kubernetes_version=None, platform=None, listener=output.note).contents.images
    data = [{"name": image.name, "reference": image.reference, "digest": image.target} for image in found]
    output.result({"images": data}, "\n".join(image.reference for image in found))


@app.command()
def verify(path: BundlePath = None, *, output: OutputOption) -> None:
    """Read every file of a bundle and compare it with the manifest."""
    from bootstrap.bundle import open_bundle

    bundle = open_bundle(path, kubernetes_version=None, platform=None)
    bundle.verify(output.note)
    count = len(bundle.manifest.files)
    output.result(
        {"path": str(bundle.path), "files": count}, f"{bundle.path}: all {count} files are as its manifest says"
    )


def _tell(bundle: Bundle, output: Output) -> None:
    """Say what was made, and where it is."""
    size = sum({listed.sha256: listed.size for listed in bundle.manifest.files}.values())
    output.note(f"Kubernetes {bundle.manifest.kubernetes_version} for {bundle.manifest.platform}, {size / 1e6:.0f} MB:")
    data = {
        "path": str(bundle.path),
        "kubernetesVersion": bundle.manifest.kubernetes_version,
        "platform": bundle.manifest.platform,
        "size": size,
    }
    output.result(data, str(bundle.path))
