"""Numbers that a paper's authors released: fetched at a pinned commit, checked by their SHA-256.

Copies in a local folder, `{folder}/{source}/{file}`, are taken before the network: the folder is
the configuration's `local` or the environment variable OVERTRAIN_RELEASED_NUMBERS.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from overtrain.config.catalogue import copies_of
from overtrain.config.studies import ReleasedNumbers
from overtrain.hub import pinned
from overtrain.records.provenance import whole_folder


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
                pinned.download(origin, path)
            pinned.check(path, origin, f"released_numbers.{source}.files.{name}", expected)
