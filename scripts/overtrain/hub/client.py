"""The Hugging Face hub: repositories opened, names resolved to commits, errors in one line.

Wherever a repository's name may stand, a local folder with the same files may stand too; of a model
it holds a folder for each revision, and is served as the hub serves a repository. A token comes
from the environment (HF_TOKEN) alone.
"""

from __future__ import annotations

import difflib
import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from overtrain import PipelineError
from overtrain.config.hub import is_local
from overtrain.hub import server as hub_server

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TIMEOUT = 60  # seconds without an answer
NO_REPOSITORY = "no such repository, or it needs HF_TOKEN"
GATED = "gated; accept its terms on the hub's page and set HF_TOKEN"
SERVED = "local/folder"  # name under which a local folder is served


def token() -> str | bool:
    """The environment's token; False, unlike None, keeps the libraries from one of a login."""
    return os.environ.get("HF_TOKEN") or False


@contextmanager
def opened(repository: str) -> Iterator[tuple[HfApi, str]]:
    """What speaks to the hub, and the name of `repository` there.

    A local folder is served on 127.0.0.1 while the block runs: nothing leaves the machine, whatever
    the environment says about proxies, and HF_HUB_OFFLINE does not matter.
    """
    import httpx2
    from huggingface_hub import HfApi, get_session, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    if not is_local(repository):
        get_session().timeout = TIMEOUT
        yield HfApi(token=token()), repository
        return
    folder = Path(repository)
    if not folder.is_dir():
        raise PipelineError(f"{repository}: no such folder")

    def stay_here(request: httpx2.Request) -> None:
        if request.url.host != "127.0.0.1":
            raise httpx2.ConnectError(f"{request.url.host} is not asked", request=request)

    def client() -> httpx2.Client:
        hooks = {"request": [stay_here]}
        return httpx2.Client(trust_env=False, timeout=TIMEOUT, event_hooks=hooks)

    set_client_factory(client)
    try:
        with hub_server.serve({f"models/{SERVED}": hub_server.Revisions(folder)}) as server:
            yield HfApi(endpoint=server.endpoint, token=False), SERVED
    finally:
        set_client_factory(default_client_factory)


def resolve(repository: str, revision: str, kind: str) -> str:
    """The commit that `revision` names; kind is "dataset" or "model". A local folder has none."""
    if Path(repository).is_dir():
        return revision
    from huggingface_hub import HfApi

    with one_line(f"{repository} at {revision}"):
        return HfApi(token=token()).repo_info(repository, revision=revision, repo_type=kind).sha


def revision_argument(repository: str, commit: str) -> str | None:
    """What `datasets` takes as the revision: the commit, or nothing for a local folder."""
    return None if Path(repository).is_dir() else commit


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
