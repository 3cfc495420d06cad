"""Images of a task or a suite: a folder with one zip archive, as they came, and a manifest.

`images.zip` stores each image's own bytes under its name; nothing is encoded anew, and an archive
of what is compressed already need not be compressed. One file holds 600,000 images where a file
system would need as many. To open such an archive takes seconds and 100 to 350 MB, once for a
process and those that are forked from it; after that an image is one read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from overtrain import PipelineError
from overtrain.records.provenance import whole_folder, write_json

if TYPE_CHECKING:
    from PIL import Image

ARCHIVE = "images.zip"
MANIFEST = "manifest.json"
AT_A_TIME = 64  # images that a thread may have waiting


class Images:
    """The images of a folder by name, each decoded as it is asked for.

    It may be forked or pickled. Forked processes share the archive's list of members, if it was
    read before (`archive`), and open the file for themselves: they would share a place in it.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._opened: tuple[int, zipfile.ZipFile] | None = None  # by which process

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "_opened": None}

    def __deepcopy__(self, memo: dict) -> Images:
        return self  # nothing of it changes, and a copy would read the list of members again

    @property
    def archive(self) -> zipfile.ZipFile:
        if self._opened is None:
            self._opened = os.getpid(), open_archive(self.folder / ARCHIVE)
        process, archive = self._opened
        if process != os.getpid():
            archive.fp = (self.folder / ARCHIVE).open("rb")
            self._opened = os.getpid(), archive
        return archive

    def __len__(self) -> int:
        return len(self.archive.namelist())

    def __contains__(self, name: str) -> bool:
        return name in self.archive.NameToInfo

    def bytes(self, name: str) -> bytes:
        """An image as it came; PipelineError if it is not there, or is not what was written."""
        try:
            return self.archive.read(name)
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            reason = f"no image {name!r}" if isinstance(error, KeyError) else f"{name}: {error}"
            raise PipelineError(f"{self.folder / ARCHIVE}: {reason}") from error

    def __getitem__(self, name: str) -> Image.Image:
        """An image in RGB; PipelineError if it is not there or cannot be decoded."""
        try:
            return decoded(self.bytes(name))
        except UndecodableError as error:
            raise PipelineError(f"{self.folder / ARCHIVE}: {name}: {error}") from error


class UndecodableError(Exception):
    """Why bytes are no whole image."""


def decoded(data: bytes) -> Image.Image:
    """The whole image that `data` encodes, in RGB; UndecodableError if it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except UnidentifiedImageError as error:
        raise UndecodableError("is no image of a known kind") from error
    except Exception as error:  # Pillow's readers raise what they like
        raise UndecodableError(f"cannot be decoded ({error})") from error


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip archive to read; PipelineError if it is none, or is cut off."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise PipelineError(f"{path}: not a readable zip archive ({error})") from error


def whole(
    names: Iterable[str], read: Callable[[str], bytes], threads: int
) -> Iterator[tuple[str, bytes | None]]:
    """Each image's bytes, or None for one that cannot be read or decoded, in the order of `names`.

    A few hundred are held at a time. Pillow decodes without Python's lock, so that threads help.
    """

    def check(name: str) -> tuple[str, bytes | None]:
        try:
            data = read(name)
            decoded(data)
        except (UndecodableError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            print(f"{name}: {error}")
            return name, None
        return name, data

    left = iter(names)
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(left, AT_A_TIME * threads)):
            yield from pool.map(check, batch)


def write(folder: Path, images: Iterable[tuple[str, bytes]]) -> dict:
    """Fill `folder` with images, whole or not at all. Returns its manifest.

    The same images in the same order give the same files. The manifest's hash is of all names and
    images' own hashes: an archive of 100 GB is not read again for it. PipelineError if two images
    have one name.
    """
    digest = hashlib.sha256()
    count = size = 0
    with whole_folder(folder) as temporary:
        with zipfile.ZipFile(temporary / ARCHIVE, "w", zipfile.ZIP_STORED) as archive:
            for name, data in images:
                if name in archive.NameToInfo:
                    raise PipelineError(f"{folder}: two images are named {name!r}")
                archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980, whenever it is written
                digest.update(json.dumps([name, hashlib.sha256(data).hexdigest()]).encode())
                count, size = count + 1, size + len(data)
        manifest = {"bytes": size, "images": count, "sha256": digest.hexdigest()}
        write_json(temporary / MANIFEST, manifest)
    return manifest
