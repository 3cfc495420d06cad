"""Writes the locks of GPU nodes: Linux on x86-64, with the registry's own builds, which are CUDA's.

python tools/locks.py            after a change of envs/lock.txt or of envs/vllm.yaml
python tools/locks.py --check    whether the registry still resolves to what the locks say

Only metadata is downloaded, so this runs anywhere. lock-cuda.txt is lock.txt with all that torch
brings on such a node. lock-vllm.txt is what the pins of vllm.yaml bring.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ENVS = Path(__file__).resolve().parents[1] / "envs"
HEAD = "# Linux x86-64, Python 3.11, CUDA. Made by tools/locks.py from {} (see there).\n"
TARGET = ("--python-platform", "x86_64-manylinux_2_28", "--python-version", "3.11")


def sources() -> dict[str, tuple[str, list[str]]]:
    """Of each lock: the file that it is made from, and the requirements there."""
    pins = [line for line in (ENVS / "lock.txt").read_text().splitlines() if line[0] != "#"]
    described = yaml.safe_load((ENVS / "vllm.yaml").read_text())["dependencies"]
    (pip,) = (part["pip"] for part in described if isinstance(part, dict))
    return {"lock-cuda.txt": ("lock.txt", pins), "lock-vllm.txt": ("vllm.yaml", pip)}


def resolve(requirements: list[str], constraints: Path | None = None) -> str:
    """The versions of all that the requirements bring, a line each; sys.exit if there are none."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", *TARGET]
    command += ["--no-annotate", *(["--constraints", str(constraints)] if constraints else []), "-"]
    asked = "\n".join(requirements)
    done = subprocess.run(command, input=asked, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    check = sys.argv[1:] == ["--check"]
    for name, (source, requirements) in sources().items():
        path = ENVS / name
        found = HEAD.format(source) + resolve(requirements, path if check else None)
        if check and found != path.read_text():
            sys.exit(f"error: envs/{name} is not what {source} resolves to: python tools/locks.py")
        if not check:
            path.write_text(found)


if __name__ == "__main__":
    main()
