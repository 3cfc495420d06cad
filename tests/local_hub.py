"""What the tests need of the local hub: repositories in folders, and a process that knows no other.

Repositories are folders `{root}/{datasets|models}/{owner}/{name}/{sha}/`. Clients that take no
endpoint reach the server by `HF_ENDPOINT`, which the libraries read once, at import: run them in a
process of their own (`run_on_hub`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from overtrain.hub import server
from overtrain.hub.server import Handler, Hub, Repository

SCRIPTS = Path(__file__).parents[1] / "scripts"


def serve(
    root: Path, refs: dict[str, str], handler: type[Handler] = Handler
) -> AbstractContextManager[Hub]:
    """Serve the repositories below `root`; `refs` are the branches and tags of each."""
    repositories = {}
    for path in root.glob("*/*/*"):
        if path.parts[-3] not in ("datasets", "models"):
            continue
        folders = {commit.name: commit for commit in path.iterdir()}
        own = {ref: commit for ref, commit in refs.items() if commit in folders}
        repositories["/".join(path.parts[-3:])] = Repository(folders, own)
    return server.serve(repositories, handler)


def run_on_hub(hub: Hub, home: Path, code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run `code` in a new Python that knows only this hub and keeps its caches in `home`.

    It has a process group of its own, which it may kill, and no torch, as the environment of the
    downloads has none.
    """
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=on_hub(hub, home),
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
    )


def on_hub(hub: Hub, home: Path) -> dict[str, str]:
    """The environment of a process that knows only this hub."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    proxies = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return (
        kept
        | proxies
        | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(SCRIPTS),
            "USE_TORCH": "0",
        }
    )
