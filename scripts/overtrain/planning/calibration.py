"""What `tools/calibrate` measured on this site's GPU, if it did: results/calibration.json.

Where a piece of work of the same kind and model was measured, its speed takes the place of what
`hardware` assumes. Nothing is taken from a GPU for a job on the CPU, nor the other way round.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from overtrain import PipelineError

PATH = Path("results/calibration.json")


@dataclass(frozen=True)
class Piece:
    """One kind of work at one model's shape, on one device.

    rate: FLOP/s, of generation bytes of memory read in a second; used: the share of hardware's
    number that this is; peak_gb: most memory in use; shape: what was run, for people.
    """

    kind: str
    model: str
    tokens_per_second: float
    rate: float
    used: float
    peak_gb: float
    shape: str


@dataclass(frozen=True)
class Calibration:
    """All pieces; device: the GPU's name, or cpu."""

    device: str = ""
    versions: str = ""
    pieces: tuple[Piece, ...] = ()

    @cached_property
    def rates(self) -> dict[tuple[str, str], float]:
        return {(piece.kind, piece.model): piece.rate for piece in self.pieces}

    def rate(self, kind: str, model: str, gpus: int) -> float | None:
        """FLOP/s of a GPU (of the CPU, where gpus is 0); None if that was not measured."""
        same = (self.device != "cpu") == (gpus > 0)
        return self.rates.get((kind, model)) if same else None

    def write(self, path: Path = PATH) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


NOTHING = Calibration()  # no site's


def read(path: Path = PATH) -> Calibration:
    """The site's, or an empty one."""
    if not path.exists():
        return NOTHING
    try:
        content = json.loads(path.read_text())
        pieces = tuple(Piece(**piece) for piece in content.pop("pieces"))
        return Calibration(**content, pieces=pieces)
    except (ValueError, TypeError, KeyError) as error:
        raise PipelineError(
            f"{path}: not what tools/calibrate writes ({error}); run it again, or remove the file"
        ) from error
