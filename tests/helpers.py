"""What tests import from one another: made-up English, a task's folder, the workflow's rules.

Not in a conftest.py: there are several, and an import by that name finds the last that was loaded.
"""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain.data import tasks

ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox", "goat", "hare", "ibis", "jay"]
STONES = ["agate", "basalt", "chalk", "flint", "granite", "jade", "marble", "onyx", "quartz"]
VERBS = ["carries", "finds", "hides", "leaves", "sees", "steals", "wants"]


def sentence(draw: random.Random) -> str:
    first, second = draw.choice(ANIMALS), draw.choice(ANIMALS)
    return f"The {first} {draw.choice(VERBS)} the {draw.choice(STONES)} of the {second}."


def documents(count: int, seed: int) -> list[str]:
    """Small stories of one to six sentences, all different."""
    draw = random.Random(seed)
    stories = [" ".join(sentence(draw) for _ in range(draw.randint(1, 6))) for _ in range(count)]
    return list(dict.fromkeys(stories))


def write_task(folder: Path, kind: str, splits: dict[str, list[dict]]) -> Path:
    """A task's folder, as rule prepare_task leaves it (without the manifest)."""
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        table = pa.Table.from_pylist(rows, pa.schema(tasks.COLUMNS[kind]))
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


def rules_of(root: Path) -> list:
    """Snakemake's rules of the workflow in `root`, at the papers' scale."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import OutputSettings, ResourceSettings

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(ResourceSettings(cores=1), snakefile=root / "Snakefile", workdir=root)
        return list(loaded._workflow.rules)
