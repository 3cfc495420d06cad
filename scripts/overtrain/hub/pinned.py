"""Files of the web outside of the hub: fetched by their address, checked by their SHA-256."""

from __future__ import annotations

import shutil
import urllib.request
from http.client import HTTPException
from pathlib import Path

from overtrain import PipelineError
from overtrain.records.provenance import sha256

TIMEOUT = 60  # seconds without an answer


def download(url: str, path: Path) -> None:
    """Put what is at `url` into `path`; PipelineError if it is not to be had."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        raise PipelineError(f"{url}: not to be had ({str(error).strip()})") from error


def check(path: Path, origin: str, key: str, expected: str) -> None:
    """PipelineError unless a file is the one that `key` of the configuration pins."""
    if (found := sha256(path)) != expected:
        raise PipelineError(f"{origin}: its SHA-256 is {found}; {key} is {expected}")
