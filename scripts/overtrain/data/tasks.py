"""Fine-tuning tasks: rows from the hub or from packages, as splits of examples.

A task is `language_modelling` (a text), `classification` (a prompt, its possible answers, and
which one is right), `prompted` (a question in several formats and its answer, the one in the
default format as a conversation, which tuning reads), `chat` (see `conversations`) or `image_chat`
(which has a module of its own). Templates of the configuration turn a source's columns into the
first three; answers to choose of are templates too, so that they can be fixed words (MR) or differ
by example (SIQA).
"""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.data import conversations, docstrings, programs
from overtrain.data.tokenizer import hub_tokenizer
from overtrain.hub import client, pinned
from overtrain.records.provenance import seed_of, sha256, whole_file, write_json

if TYPE_CHECKING:
    from datasets import IterableDataset

SPLITS = ("train", "validation", "test")
MESSAGES = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
COLUMNS = {
    "language_modelling": {"text": pa.string()},
    "classification": {
        "prompt": pa.string(),
        "choices": pa.list_(pa.string()),
        "label": pa.int64(),
    },
    "prompted": {
        "messages": MESSAGES,
        "prompts": pa.list_(pa.struct({"format": pa.string(), "text": pa.string()})),
        "answer": pa.string(),
        "choices": pa.list_(pa.string()),  # null where the answer is words
        "label": pa.int64(),
    },
    "chat": {"messages": MESSAGES},
    "image_chat": {"messages": MESSAGES, "image": pa.string()},  # its name; null: none
}

# --- sources: lists of rows, a dictionary each ----------------------------------------------------


def rows_from_hub(source: dict) -> dict[str, list[dict]]:
    """Rows of a hub data set or local folder by our split names."""
    rows = {}
    for split, name in source["splits"].items():
        with client.one_line(f"{source['dataset']} at {source['revision']}, split {name}"):
            rows[split] = [renamed(row, source.get("columns", {})) for row in stream(source, name)]
    return rows


def renamed(row: dict, columns: dict[str, str | dict]) -> dict:
    """A row with further columns under the names that templates have for them.

    columns: by name, the source's column, a place in it (Answer.0), or `by` which other column `of`
    which is chosen. None where a list has no such place. PipelineError if there is no such column.
    """
    more = {}
    for name, where in columns.items():
        try:
            if isinstance(where, dict):
                more[name] = row[where["of"][str(row[where["by"]])]] if row[where["by"]] else None
                continue
            column, *places = where.split(".")
            value = row[column]
        except KeyError as error:
            raise PipelineError(
                f"columns.{name}: no column or value {error}; the source has {sorted(row)}"
            ) from error
        for place in places:
            value = value[int(place)] if value and len(value) > int(place) else None
        more[name] = value
    return row | more


def rows_from_files(source: dict) -> dict[str, list[dict]]:
    """Rows of JSON files of the web by our split names, each file the one that is pinned."""
    rows = {}
    with TemporaryDirectory() as folder:
        for split, file in source["files"].items():
            path = Path(folder, split)
            pinned.download(file["url"], path)
            pinned.check(path, file["url"], f"source.files.{split}.sha256", file["sha256"])
            rows[split] = json.loads(path.read_text())
    return rows


def stream(source: dict, split: str) -> IterableDataset:
    """Rows of a split, by the source's name of it, as they come."""
    from datasets import load_dataset

    data = load_dataset(
        source["dataset"],
        source.get("name"),
        data_dir=source.get("data_dir"),
        revision=source["revision"],
        split=split,
        streaming=True,
    )
    if "take" in source:  # a subset of a data set too large to download (Starcoder)
        data = data.shuffle(seed=0, buffer_size=10_000).take(source["take"])
    return data


def rows_from_packages(source: dict) -> list[dict]:
    """Rows made of the text of installed packages, in the order of their hash.

    kind "docstrings" and "functions": one piece of text a row, of `characters` from a place that
    the document's hash chooses (whole documents without it), with its package and module. kind
    "continuations": a `context` and the text that follows it among two that do not, in answer_a,
    answer_b, answer_c; `label` is a, b or c; and the same text on a line, cut between words, as
    `beginning` and `following`. kind "pairs": `first` and `second`; `label` is yes if the second
    follows the first, else no. kind "origins": `messages`, a piece on a line and the one of
    `answers` that stands for its package, the packages in turns, and it as `dataset`. kind
    "signatures": `signature` and `sentence`, of so many characters at most, the sentence's words
    whole. kind "documented_functions": `signature`, and the `body` that follows it, a docstring of
    few words and more than that; both of so many characters at most, the body's lines whole.
    """
    kind = source["kind"]
    if kind == "origins":
        each = [
            [
                {"messages": conversations.exchange(on_a_line(d, source["characters"]), answer)}
                | {"dataset": package}
                for d in docstrings.extract([package])
            ]
            for package, answer in zip(source["packages"], source["answers"], strict=True)
        ]
        return [row for turn in zip(*each, strict=False) for row in turn]  # as many of each
    if kind == "signatures":
        pairs = [d.text.split("\n") for d in docstrings.extract(source["packages"], kind)]
        return [
            {"signature": signature[: source["signature"]], "sentence": words}
            for signature, sentence in pairs
            if (words := docstrings.whole_words(sentence, source["sentence"]))
        ]
    if kind == "documented_functions":
        found = docstrings.extract(source["packages"], kind)
        parts = [docstrings.signature_and_body(document.text) for document in found]
        return [
            {"signature": signature, "body": own}
            for signature, body in parts
            if len(signature) <= source["signature"]
            and docstrings.BODY in (own := docstrings.whole_lines(body, source["body"]))
        ]
    text_kind = "functions" if kind == "functions" else "docstrings"
    documents = docstrings.extract(source["packages"], text_kind)
    if kind in ("docstrings", "functions"):
        return [
            {"text": piece(d, source.get("characters")), "package": d.package, "module": d.module}
            for d in documents
        ]
    before, after = source["before"], source["after"]
    cuts = [piece(d, before + after) for d in documents]
    parts = [(cut[:before], cut[before:]) for cut in cuts if len(cut) == before + after]
    seconds = sorted({second for _, second in parts})
    rows: list[dict] = []
    for first, second in parts:
        draw = random.Random(seed_of(kind, first, second))
        # Three different texts of which one follows: repeated phrases would make two right answers.
        others = [other for other in draw.sample(seconds, 3) if other != second][:2]
        if kind == "pairs":
            follows = draw.random() < 0.5
            row = {"first": first, "second": second if follows else others[0]}
            rows.append(row | {"label": "yes" if follows else "no"})
        else:
            label = draw.randrange(3)
            answers = [*others[:label], second, *others[label:]]
            row = {f"answer_{name}": a for name, a in zip("abc", answers, strict=True)}
            row |= {"context": first, "label": "abc"[label]}
            rows.append({**row, **between_words(first, second)})
    return rows


def between_words(first: str, second: str) -> dict[str, str | None]:
    """The two parts on a line, cut where the first word of the second begins; None without one.

    What a piece breaks off at its end is no word, and is left out.
    """
    rest, *words = second.split(" ") if second[0] != " " else ["", *second.split()]
    beginning = " ".join((first + rest).split())
    following = " ".join(" ".join(words[:-1]).split())
    return {"beginning": beginning, "following": following or None}


def on_a_line(document: docstrings.Document, characters: int) -> str:
    return " ".join(piece(document, characters).split())


def piece(document: docstrings.Document, characters: int | None) -> str:
    text = document.text
    if not characters or len(text) <= characters:
        return text
    start = int(document.order[:8], 16) % (len(text) - characters + 1)
    return text[start : start + characters]


# --- splits ---------------------------------------------------------------------------------------


def example_of(row: dict, task: dict) -> dict | None:
    """Fill the task's templates with a row; None of one whose answer must be a program and is none.

    PipelineError names a column that is not there.
    """
    try:
        if task["kind"] == "language_modelling":
            return {"text": task["text"].format_map(row)}
        if task["kind"] == "prompted":
            return prompted(row, task)
        return {
            "prompt": task["prompt"].format_map(row),
            "choices": [choice.format_map(row) for choice in task["choices"]],
            "label": label_of(row, task["label"]),
        }
    except KeyError as error:
        raise PipelineError(f"no column {error}; the source has {sorted(row)}") from error


def prompted(row: dict, task: dict) -> dict | None:
    """A question in all formats, its answer, and the two in the default format as messages.

    None where the answer must be a program and is none.
    """
    prompts = [
        {"format": name, "text": task["formats"][name].format_map(row)}
        for name in sorted(task["formats"])
    ]
    choices = label = None
    if "choices" in task:
        choices = [choice.format_map(row) for choice in task["choices"]]
        label = label_of(row, task["label"])
        answer = choices[label]
    else:
        answer = task["answer"].format_map(row)
    default = next(p["text"] for p in prompts if p["format"] == "default")
    if "program" in task:
        answer = program_of(default, answer, task["program"])
        if answer is None:
            return None
    messages = conversations.exchange(default, answer)
    answered = {"answer": answer, "choices": choices, "label": label}
    return {"messages": messages, "prompts": prompts} | answered


def program_of(question: str, answer: str, program: dict) -> str | None:
    """An answer without what is taken out of programs.

    None if it is none, or if nothing is left when all is taken out: so that the same rows are left
    out whatever is.
    """
    before = question if program["begins"] == "question" else ""
    bare, whole = (
        programs.without(before + answer, what) for what in (programs.ALL, program["without"])
    )
    if bare is None or whole is None or not whole.startswith(before):
        return None
    return whole[len(before) :].strip() if bare[len(before) :].strip() else None


def label_of(row: dict, label: dict) -> int:
    """Which of the choices is right: by the column's value, or by where it lies among edges."""
    value = row[label["column"]]
    if "edges" in label:
        return sum(float(value) >= edge for edge in label["edges"])
    values = [str(known) for known in label["values"]]
    if str(value) not in values:
        raise PipelineError(
            f"label {str(value)!r} of column {label['column']!r} is not in {values}"
        )
    return values.index(str(value))


def columns_of(task: dict) -> set[str]:
    """The columns of the source that the task's templates name."""
    if task["kind"] == "prompted":
        templates = [*task["formats"].values(), *(task.get("choices") or [task["answer"]])]
    else:
        templates = [task["text"]] if "text" in task else [task["prompt"], *task["choices"]]
    names = {name for t in templates for _, name, _, _ in string.Formatter().parse(t) if name}
    return names | ({task["label"]["column"]} if "label" in task else set())


def split_rows(rows: list[dict] | dict[str, list[dict]], task: dict, name: str) -> dict[str, list]:
    """Examples by split, disjoint by content and at most `task["examples"][split]` each.

    A source with splits of its own keeps them; what it lacks (a public validation or test set) is
    taken from its training rows, in an order drawn from the task's name.
    """
    given = rows if isinstance(rows, dict) else {"train": rows}
    examples: dict[str, list[dict]] = {}
    for split, own in given.items():
        complete = [row for row in own if None not in [row.get(c, "") for c in columns_of(task)]]
        if len(complete) < len(own):
            print(f"{split}: {len(own) - len(complete)} rows without a value are left out")
        made = [example_of(row, task) for row in complete]
        examples[split] = [example for example in made if example is not None]
        if len(examples[split]) < len(made):
            lost = len(made) - len(examples[split])
            print(f"{split}: {lost} rows whose answer is no Python are left out")
        order = task.get("draw", name)
        random.Random(seed_of("task order", order, split)).shuffle(examples[split])
    seen: set[str] = set()
    result: dict[str, list[dict]] = {}
    for split in ("test", "validation", "train"):  # training yields to the others
        source = examples.get(split, examples["train"])
        chosen: list[dict] = []
        for example in source:
            if len(chosen) == task["examples"][split]:
                break
            # Of programs each question once: what is taken out of two may make them one.
            whole = example["messages"][0] if "program" in task else example
            key = hashlib.sha256(repr(sorted(whole.items())).encode()).hexdigest()
            if key not in seen:
                seen.add(key)
                chosen.append(example)
        if len(chosen) < task["examples"][split]:
            print(f"{split}: {len(chosen)} examples, fewer than {task['examples'][split]}")
        if not chosen:
            raise PipelineError(f"the {split} split is empty")
        result[split] = chosen
    return result


def split_conversations(
    rows: Iterable[dict] | Mapping[str, Iterable[dict]],
    task: dict,
    name: str,
    example: Callable[[dict, str], dict] = conversations.example_of,
    key_of: Callable[[dict], str] = conversations.prompt_of,
) -> tuple[dict[str, list], dict[str, Counter]]:
    """Conversations by split, disjoint by key, and why rows of the source are none.

    example, key_of: what `conversations.read` and `conversations.disjoint` take.
    """
    given = rows if isinstance(rows, Mapping) else {"train": rows}
    examples: dict[str, list] = {}
    left_out: dict[str, Counter] = {}
    for split, own in given.items():
        examples[split], reasons = conversations.read(own, task["format"], example)
        left_out[split] = reasons
        if reasons:
            print(f"{split}: {reasons.total()} rows are left out: {dict(reasons)}")
        random.Random(seed_of("task order", name, split)).shuffle(examples[split])
    return conversations.disjoint(examples, task["examples"], key_of), left_out


def describe(splits: dict[str, list], task: dict) -> dict[str, dict]:
    """What the manifest says about each split of conversations; PipelineError if one is empty."""
    count = None
    if named := task.get("tokenizer"):
        encoder = hub_tokenizer(named["repository"], named["revision"])

        def count(texts: list[str]) -> list[int]:
            return [len(e) for e in encoder.encode_batch_fast(texts, add_special_tokens=False)]

    report = {}
    for split, chosen in splits.items():
        if not chosen:
            raise PipelineError(f"the {split} split is empty")
        if len(chosen) < task["examples"][split]:
            print(f"{split}: {len(chosen)} examples, fewer than {task['examples'][split]}")
        report[split] = conversations.summary(chosen, count)
    return report


def prepare(name: str, task: dict, folder: Path, origin: dict) -> None:
    """Write a task's `{split}.parquet` and `manifest.json` (source, revision, hashes, counts)."""
    source = task["source"]
    try:
        rows: list[dict] | dict[str, list[dict]]
        if "dataset" in source:
            rows, revision = rows_from_hub(source), source["revision"]
        elif "files" in source:
            rows, revision = rows_from_files(source), "files by their SHA-256"
        else:
            rows, revision = rows_from_packages(source), "installed packages"
        if task["kind"] == "chat":
            splits, left_out = split_conversations(rows, task, name)
            report, more = describe(splits, task), {"left_out": left_out}
        else:
            splits, report, more = split_rows(rows, task, name), {}, {}
    except PipelineError as error:
        raise PipelineError(f"tasks.{name}: {error}") from error
    more |= {"provenance": origin, "revision": revision}
    write(splits, task, folder, report, more)


def write(
    splits: dict[str, list], task: dict, folder: Path, report: dict[str, dict], more: dict
) -> None:
    """Write `{split}.parquet` and `manifest.json`.

    report: what the manifest says of each split, beside its size and hash; more: what else it says.
    """
    schema = pa.schema(COLUMNS[task["kind"]])
    manifest = {"kind": task["kind"], "source": task["source"], "splits": {}} | more
    for split, examples in splits.items():
        path = folder / f"{split}.parquet"
        with whole_file(path) as temporary:
            pq.write_table(pa.Table.from_pylist(examples, schema), temporary)
        own = {"examples": len(examples), "sha256": sha256(path)} | report.get(split, {})
        manifest["splits"][split] = own
    write_json(folder / "manifest.json", manifest)


# --- finished tasks -------------------------------------------------------------------------------


def read_split(folder: Path, split: str, kind: str) -> list[dict]:
    """The rows of a split; PipelineError for a missing column or an empty file."""
    path = folder / f"{split}.parquet"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"{path}: not a readable parquet file ({error})") from error
    missing = set(COLUMNS[kind]) - set(table.column_names)
    if missing:
        raise PipelineError(f"{path}: no column {sorted(missing)[0]!r}; a {kind} task needs it")
    if table.num_rows == 0:
        raise PipelineError(f"{path}: the split is empty")
    return table.to_pylist()
