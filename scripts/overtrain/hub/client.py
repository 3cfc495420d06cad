"""The Hugging Face hub: who asks, the nearest of what is not there, errors in one line.

Wherever a repository's name may stand, a local folder with the same files may stand too; of a model
it holds a folder for each revision. A token comes from the environment (HF_TOKEN) alone
(`overtrain.__init__`).
"""

from __future__ import annotations

import difflib
import gzip
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from overtrain import PipelineError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TIMEOUT = 60  # seconds without an answer
OFFLINE = {  # of a process that is to ask nobody
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
NO_REPOSITORY = "no such repository, or it needs HF_TOKEN"
GATED = "gated; accept its terms on the hub's page and set HF_TOKEN"


def api() -> HfApi:
    """What speaks to the hub, and waits no longer than TIMEOUT for an answer."""
    from huggingface_hub import HfApi, get_session

    get_session().timeout = TIMEOUT
    return HfApi()


def stay_offline() -> None:
    """Have the hub's libraries ask nobody: on a node without internet each question waits a minute.

    For jobs whose inputs are all files here. Holds for child processes, and for libraries that are
    imported already and have read the variables.
    """
    os.environ.update(OFFLINE)
    for name in ("huggingface_hub.constants", "datasets.config"):
        if module := sys.modules.get(name):
            module.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def file_of(repository: str, name: str, revision: str, kind: str) -> Path:
    """One file of a repository of the hub, kept in its cache here, or of a local folder."""
    if Path(repository).is_dir():
        if not (path := Path(repository, name)).exists():
            raise FileNotFoundError(f"{path} does not exist")
        return path
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, name, revision=revision, repo_type=kind))


def revisions(api: HfApi, name: str, kind: str) -> dict[str, str]:
    """The commit of every branch and tag of a repository."""
    refs = api.list_repo_refs(name, repo_type=kind)
    return {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names in `known` most like `name`: the same but for nearby numbers, or similar letters.

    By letters alone ckpt_410 would be as near to ckpt_010 as to ckpt_358.
    """

    def shape(text: str) -> str:
        return re.sub(r"\d+", "#", text)

    def numbers(text: str) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", text)]

    def distance(text: str) -> list[int]:
        return [abs(a - b) for a, b in zip(numbers(text), numbers(name), strict=True)]

    known = list(known)
    alike = sorted((k for k in known if shape(k) == shape(name)), key=distance)
    return (alike or difflib.get_close_matches(name, known, count))[:count]


def no_revision(revision: str, known: Iterable[str]) -> str:
    """A clause for a revision that does not exist, with the nearest of the `known` that do."""
    known = list(known)
    if near := nearest(revision, known):
        return f"no such revision; nearest {', '.join(near)} (of {len(known)})"
    return f"no such revision; it has {', '.join(known[:3])}{', ...' if known[3:] else ''}"


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn what the hub, `datasets` and damaged files raise into a PipelineError about `what`.

    Other errors of the system (a full disk) pass.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise PipelineError(f"{what}: {GATED}") from error
    except errors.RevisionNotFoundError as error:
        raise PipelineError(f"{what}: no such revision") from error
    except errors.RepositoryNotFoundError as error:
        raise PipelineError(f"{what}: {NO_REPOSITORY}") from error
    except (httpx2.TransportError, errors.OfflineModeIsEnabled) as error:
        reason = " ".join(str(error).split()) or "no answer"
        raise PipelineError(
            f"{what}: the hub is not to be reached ({type(error).__name__}: {reason[:200]})"
        ) from error
    except (
        errors.HfHubHTTPError,
        FileNotFoundError,
        gzip.BadGzipFile,
        EOFError,
        zlib.error,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"{what}: {type(error).__name__}: {reason[:200]}") from error
