"""Made-up English that tests train on and ask about; deterministic."""

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
