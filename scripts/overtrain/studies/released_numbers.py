"""Numbers that a paper's authors released: fetched at a pinned commit, checked by their SHA-256.

Copies in a local folder, `{folder}/{source}/{file}`, are taken before the network: the folder is
the configuration's `local` or the environment variable OVERTRAIN_RELEASED_NUMBERS.
"""

from __future__ import annotations

import shutil
import urllib.request
from http.client import HTTPException
from pathlib import Path

from overtrain import PipelineError
from overtrain.config.catalogue import copies_of
from overtrain.config.studies import ReleasedNumbers
from overtrain.records.provenance import sha256, whole_folder

TIMEOUT = 60  # seconds without an answer


def fetch(source: str, numbers: ReleasedNumbers, folder: Path) -> None:
    """Put the files of `numbers` into `folder`.

    PipelineError, and no folder, if a file cannot be had or is another than the one pinned.
    """
    copies = copies_of(source, numbers)
    with whole_folder(folder) as temporary:
        for name, expected in numbers.files.items():
            path = temporary / name
            if copies:
                origin = str(copies / name)
                shutil.copyfile(origin, path)
            else:
                origin = numbers.url.format(commit=numbers.commit, file=name)
                download(origin, path)
            found = sha256(path)
            if found != expected:
                raise PipelineError(
                    f"{origin}: its SHA-256 is {found}; released_numbers.{source}.files.{name} "
                    f"is {expected}"
                )


def download(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        raise PipelineError(f"{url}: not to be had ({str(error).strip()})") from error
