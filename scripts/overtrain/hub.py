"""The Hugging Face hub: names resolved to commits, and its errors in one line.

Wherever a repository's name may stand, a local folder with the same files may stand too. Tokens
come from the environment (HF_TOKEN) alone, through the hub's own library.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overtrain import PipelineError


def resolve(repository: str, revision: str, kind: str) -> str:
    """The commit that `revision` names; kind is "dataset" or "model". A local folder has none."""
    if Path(repository).is_dir():
        return revision
    from huggingface_hub import HfApi

    with one_line(f"{repository} at {revision}"):
        return HfApi().repo_info(repository, revision=revision, repo_type=kind).sha


def revision_argument(repository: str, commit: str) -> str | None:
    """What `datasets` takes as the revision: the commit, or nothing for a local folder."""
    return None if Path(repository).is_dir() else commit


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn what the hub, `datasets` and damaged files raise into a PipelineError about `what`.

    Other errors of the system (a full disk) pass.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise PipelineError(f"{what}: gated; accept its terms and set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise PipelineError(f"{what}: no such revision") from error
    except errors.RepositoryNotFoundError as error:
        raise PipelineError(f"{what}: no such repository, or it needs HF_TOKEN") from error
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
