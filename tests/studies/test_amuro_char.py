"""The released numbers of "Amuro & Char": how they are read, and what the paper makes of them.

Tests of the paper's numbers need the authors' three CSVs, in ../shared/published/amuro_char or in
the amuro_char folder of OVERTRAIN_RELEASED_NUMBERS, and are skipped without them. The others write
small files of the same form.
"""

import json
import math
import os
from pathlib import Path

import pandas as pd
import pytest
from configuration import PAPERS, targets_of

from overtrain import PipelineError
from overtrain.figures.aggregate import aggregate
from overtrain.figures.drawing.axes import plt
from overtrain.figures.kinds import FIGURES, TABLES
from overtrain.records import measurements
from overtrain.records.provenance import sha256
from overtrain.studies import amuro_char
from overtrain.studies.amuro_char import mean_gains, ratios, with_base

ROOT = Path(__file__).parents[2]
CONFIG = PAPERS
TARGETS = targets_of(CONFIG)
PAPER = "amuro_char"
SETTINGS = json.loads(TARGETS.catalogue.reading_slice(PAPER))
CHECKPOINTS = SETTINGS["checkpoints"]
ALL, OFFICIAL, INSTRUCTION = amuro_char.FILES


# --- the paper's numbers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released() -> Path:
    """The folder of the authors' files."""
    roots = [os.environ.get("OVERTRAIN_RELEASED_NUMBERS"), ROOT.parent / "shared" / "published"]
    for root in filter(None, roots):
        if all((Path(root) / PAPER / name).is_file() for name in amuro_char.FILES):
            return Path(root) / PAPER
    pytest.skip(
        "no copies of the authors' CSVs (OVERTRAIN_RELEASED_NUMBERS names no folder with them)"
    )


@pytest.fixture(scope="module")
def csvs(released) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(released / name) for name in amuro_char.FILES}


@pytest.fixture(scope="module")
def read(released) -> tuple[list[dict], pd.DataFrame, pd.DataFrame]:
    return amuro_char.read(released, SETTINGS)


@pytest.fixture(scope="module")
def measured(read, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "amuro_char.parquet"
    measurements.write(read[0], path, {})
    return path


@pytest.fixture
def rows_of(measured, tmp_path):
    """The rows of a figure or table, as rule aggregate makes them."""

    def rows(target: str) -> pd.DataFrame:
        slice_ = json.loads(TARGETS.aggregate_slice(PAPER, target))
        output = tmp_path / f"{target}.parquet"
        aggregate([measured], slice_["rows"], output, {})
        return measurements.read(output).to_pandas()

    return rows


def table(rows_of, name: str) -> pd.DataFrame:
    settings = json.loads(TARGETS.table_slice(PAPER, name))
    return TABLES[settings["content"]].tabulate(rows_of(name), settings)


def test_copies_are_the_files_that_are_pinned(released):
    pinned = CONFIG["released_numbers"][PAPER]["files"]
    assert {name: sha256(released / name) for name in pinned} == pinned
    assert set(pinned) == set(amuro_char.FILES)


# Appendix G: learned in pre-training, learned in fine-tuning.
TABLE_5 = {
    "step1000": ("0.048", "0.062"),
    "step18000": ("0.048", "0.149"),
    "step342000": ("0.004", "0.286"),
    "step424000": ("0.010", "0.297"),
    "step505000": ("0.030", "0.304"),
    "step592000": ("0.027", "0.297"),
    "step738000": ("0.021", "0.264"),
    "main": ("-0.005", "0.290"),
}


def test_table_5_is_as_printed(rows_of):
    found = table(rows_of, "table5")
    printed = ["Learned in pre-training, as printed", "Learned in fine-tuning"]
    assert dict(zip(found.index, found[printed].itertuples(index=False), strict=True)) == TABLE_5
    assert list(found.index) == list(TABLE_5)


def test_table_5_with_sciq_counted_once(rows_of):
    found = table(rows_of, "table5")["Learned in pre-training"]
    corrected = ["0.037", "0.041", "0.002", "0.009", "0.022", "0.017", "0.014", "-0.002"]
    assert found.tolist() == corrected


def score(csvs, model_id: str, dataset: str) -> float:
    """A number straight from the authors' main file."""
    own = csvs[ALL]
    own = own[(own.model_id == model_id) & (own["eval dataset"] == dataset)]
    return own.Performance.item()


def change(csvs, task: str, evaluation: str, step: str) -> float:
    """Ratio of change of one cell, without the library."""
    rate = "2e-7" if task == "xsum" else "2e-6"
    own, base = f"ckpt{step}", f"olmo1b_checkpoint-{step}_original_hf_4shots"
    if step == "main":
        own, base = "main", "olmo1b_original_hf_4shots"
    before = score(csvs, base, evaluation)
    after = score(csvs, f"olmo1b_hf_{own}_{task}_3epoch_{rate}_4shots", evaluation)
    return (after - before) / before


CLASSES, TEXTS = "classification to generation", "generation to classification"
DIRECTIONS = {
    CLASSES: [(task, to) for task in ("mnli", "paws") for to in ("xsum", "socialiqa")],
    TEXTS: [(task, to) for task in ("xsum", "socialiqa") for to in ("mnli_matched", "paws")],
}


@pytest.fixture(scope="module")
def changes(csvs) -> dict[str, dict[tuple[str, str], list[float]]]:
    """{direction: {(task, evaluation): ratio of change by checkpoint}} without the library."""
    steps = [checkpoint.removeprefix("step") for checkpoint in CHECKPOINTS]
    return {
        direction: {pair: [change(csvs, *pair, step) for step in steps] for pair in pairs}
        for direction, pairs in DIRECTIONS.items()
    }


@pytest.mark.parametrize(("direction", "mean"), [(CLASSES, "-61.46"), (TEXTS, "0.31")])
def test_the_mean_ratio_of_change_is_over_32_cells_of_4_pairs(rows_of, changes, direction, mean):
    found = table(rows_of, "transfer")[direction]
    assert found[["Cells", "Pairs", "Mean, %"]].tolist() == [32, 4, mean]
    cells = [ratio for pair in changes[direction].values() for ratio in pair]
    assert f"{100 * sum(cells) / 32:.2f}" == mean
    cells.sort()
    assert found["Median, %"] == f"{50 * (cells[15] + cells[16]):.2f}"


def test_every_cell_is_in_its_table(rows_of, changes):
    found = table(rows_of, "transfer_cells")
    assert list(found.columns) == ["direction", *CHECKPOINTS]
    for direction, pairs in changes.items():
        own = found[found.direction == direction]
        assert list(own.index) == [f"{task} to {evaluation}" for task, evaluation in pairs]
        for cells, row in zip(pairs.values(), own[CHECKPOINTS].to_numpy(), strict=True):
            assert list(row) == [f"{100 * ratio:.2f}" for ratio in cells]


T_975 = 3.182446305284263  # Student's t with 3 degrees of freedom


def two_sided_p(t: float) -> float:
    """Of Student's t with 3 degrees of freedom, whose distribution function is elementary."""
    x = abs(t) / math.sqrt(3)
    return 1 - 2 / math.pi * (x / (1 + x * x) + math.atan(x))


@pytest.mark.parametrize(("direction", "t", "p"), [(CLASSES, -2.17, 0.12), (TEXTS, 0.38, 0.73)])
def test_the_difference_from_zero_is_tested_on_the_means_of_pairs(
    rows_of, changes, direction, t, p
):
    found = table(rows_of, "transfer")[direction]
    means = [sum(cells) / 8 for cells in changes[direction].values()]
    mean = sum(means) / 4
    error = math.sqrt(sum((m - mean) ** 2 for m in means) / 3 / 4)
    assert mean / error == pytest.approx(t, abs=0.005)
    assert two_sided_p(mean / error) == pytest.approx(p, abs=0.005)
    assert found["t"] == f"{mean / error:.2f}"
    assert found["p"] == f"{two_sided_p(mean / error):.3g}"
    low, high = mean - T_975 * error, mean + T_975 * error
    assert found["95 % interval, %"] == f"{100 * low:.1f} to {100 * high:.1f}"


def test_one_cell_moves_the_mean_by_18_points(rows_of, changes):
    found = table(rows_of, "transfer")
    assert found[CLASSES]["Cell that moves it most"] == (
        "paws to xsum, step424000 (+491 %): -79.29 without it"
    )
    for direction, pairs in changes.items():
        cells = [ratio for pair in pairs.values() for ratio in pair]
        others = [(sum(cells) - cell) / 31 for cell in cells]
        assert found[direction]["Without one cell, %"] == (
            f"{100 * min(others):.2f} to {100 * max(others):.2f}"
        )


def test_every_released_row_is_a_measurement_or_left_out_and_only_once(csvs, read):
    rows, mapping, left_out = read
    assert (len(rows), len(left_out), sum(map(len, csvs.values()))) == (840, 13, 853)
    where = ["file", *amuro_char.COLUMNS]
    theirs = pd.concat([own.assign(file=name)[where] for name, own in csvs.items()])
    keys = [set(t[where].itertuples(index=False, name=None)) for t in (theirs, mapping, left_out)]
    assert len(theirs) == len(mapping) == len(keys[0]) and keys[0] == keys[1]  # all names are read
    assert left_out.reason.str.startswith("a second value; the first, ").all()
    assert len(keys[2]) == 13 and keys[2] < keys[0]
    kept = [
        row for row in mapping.to_dict("records") if tuple(row[c] for c in where) not in keys[2]
    ]
    for measurement, names in zip(rows, kept, strict=True):
        assert measurement["value"] == names["Performance"]
        for name in ("checkpoint", "task", "prompt", "evaluation", "shots", "learning_rate"):
            same = measurement[name] == names[name]
            assert same or (measurement[name] is None and pd.isna(names[name]))
    identities = [tuple(v for k, v in r.items() if k not in ("value", "stderr")) for r in rows]
    assert len(set(identities)) == 840


def test_errors_are_the_released_ones(csvs, read):
    errors = {row["value"]: row["stderr"] for row in read[0]}
    released = csvs[ALL].drop_duplicates("Performance", keep=False)
    released = released[released.model_id != "checkpoint-1000_4shots"]  # a second value
    assert len(released) > 500
    found = [errors[value] for value in released.Performance]
    assert found == released["std"].tolist()
    assert sum(not math.isnan(row["stderr"]) for row in read[0]) == len(csvs[ALL]) - 1


# What was not released: (evaluation, fine-tuned on, prompt, checkpoint) by figure.
GAPS = {
    "fig08": {
        ("llmbar_Natural", "tulu", "default", "step342000"),
        ("llmbar_Adversarial_Neighbor", "tulu", "default", "step342000"),
    },
    "fig11": {
        ("paws", "mnli", "default", "step342000"),
        ("mnli_matched", "paws", "default", "step342000"),
        ("mnli_matched", "paws", "default", "step738000"),
    },
    "fig13": {("xlsum", "xsum", "instruction", checkpoint) for checkpoint in CHECKPOINTS}
    | {("xlsum", None, prompt, "main") for prompt in ("instruction", "input_output")},
}
SCORES = [
    figure
    for figure, own in CONFIG["figures"][PAPER].items()
    if own["plot"] == "scores_by_checkpoint" and own["source"] == "published"
]


@pytest.mark.parametrize("figure", SCORES)
def test_a_figure_shows_every_checkpoint_of_every_cell_that_was_released(rows_of, figure):
    settings = json.loads(TARGETS.figure_slice(PAPER, figure))
    _, drawn = FIGURES[settings["plot"]].draw(rows_of(figure), settings)
    plt.close("all")
    drawn = drawn.astype({"task": object}).where(drawn.notna(), None)
    found = set(drawn[["evaluation", "task", "prompt", "checkpoint"]].itertuples(index=False))
    wanted = {
        (cell["evaluation"], task, prompt, checkpoint)
        for cell in settings["cells"]
        for task in (cell["task"], None)
        for prompt in settings["prompts"]
        for checkpoint in CHECKPOINTS
    }
    assert wanted - found == GAPS.get(figure, set())
    assert found <= wanted


def test_the_base_figure_has_a_score_for_every_data_set_and_checkpoint(rows_of):
    settings = json.loads(TARGETS.figure_slice(PAPER, "fig02"))
    _, drawn = FIGURES[settings["plot"]].draw(rows_of("fig02"), settings)
    plt.close("all")
    assert not drawn.duplicated(["evaluation", "checkpoint"]).any()
    assert len(drawn) == 12 * len(CHECKPOINTS) and drawn.task.isna().all()


# --- reading --------------------------------------------------------------------------------------

Rows = list[tuple]


def files(folder: Path, rows: Rows = (), official: Rows = (), instruction: Rows = ()) -> Path:
    """Files of (model id, data set, performance[, std])."""
    for name, own in zip(amuro_char.FILES, (rows, official, instruction), strict=True):
        columns = [*amuro_char.COLUMNS, *(["std"] if name == ALL else [])]
        own = [(*row, 0.01) if name == ALL and len(row) == 3 else row for row in own]
        pd.DataFrame(own, columns=columns).to_csv(folder / name)
    return folder


def one(folder: Path) -> dict:
    """The only measurement of a folder, from which nothing is left out."""
    (row,), mapping, left_out = amuro_char.read(folder, SETTINGS)
    assert left_out.empty and len(mapping) == 1
    return row


BASE = {"task": None, "recipe": None, "learning_rate": None, "selection": "base"}
TUNED = {"recipe": "3epochs", "learning_rate": 2e-6, "selection": "last"}
TULU = TUNED | {"task": "tulu", "recipe": "5epochs", "shots": None}
CHAT = {"prompt": "chain_of_thought_chat"}
IDS = [
    (ALL, "olmo1b_original_hf", BASE | {"checkpoint": "main", "shots": 0}),
    (ALL, "olmo1b_original_hf_7shots", BASE | {"checkpoint": "main", "shots": 7}),
    (ALL, "checkpoint-1000_4shots", BASE | {"checkpoint": "step1000", "shots": 4}),
    (ALL, "olmo1b_checkpoint-18000_original", BASE | {"checkpoint": "step18000", "shots": 0}),
    (
        ALL,
        "olmo1b_checkpoint-342000_original_hf_2shots",
        BASE | {"checkpoint": "step342000", "shots": 2},
    ),
    (
        ALL,
        "olmo1b_hf_ckpt424000_mnli_3epoch_2e-6_4shots",
        TUNED | {"task": "mnli", "checkpoint": "step424000", "shots": 4},
    ),
    (
        ALL,
        "olmo1b_hf_ckpt505000_xsum_3epoch_2e-7_2shots",
        TUNED | {"task": "xsum", "checkpoint": "step505000", "shots": 2, "learning_rate": 2e-7},
    ),
    (
        ALL,
        "olmo1b_hf_main_mnli_3epoch_2e-5",
        TUNED | {"task": "mnli", "checkpoint": "main", "shots": 0, "learning_rate": 2e-5},
    ),
    (
        ALL,
        "olmo1b_hf_ckpt738000_tulu_5epoch_2e-6_4shots",
        TULU | {"checkpoint": "step738000", "shots": 4},
    ),
    (OFFICIAL, "checkpoint-592000", BASE | {"checkpoint": "step592000", "shots": None}),
    (OFFICIAL, "olmo1b_original_hf", BASE | {"checkpoint": "main", "shots": None}),
    (OFFICIAL, "olmo1b_hf_main_tulu_5epoch_2e-6", TULU | {"checkpoint": "main"}),
    (INSTRUCTION, "olmo1b_original", BASE | {"checkpoint": "main", "shots": None}),
    (INSTRUCTION, "olmo1b_hf_original_cot_chat", BASE | CHAT | {"checkpoint": "main"}),
    (INSTRUCTION, "checkpoint-1000_cot_chat", BASE | CHAT | {"checkpoint": "step1000"}),
    (INSTRUCTION, "olmo1b_tulu_5epoch_2e-6", TULU | {"checkpoint": "main"}),
    (
        INSTRUCTION,
        "olmo1b_ckpt1000_tulu_5epoch_2e-6_cot_chat",
        TULU | CHAT | {"checkpoint": "step1000"},
    ),
]


@pytest.mark.parametrize(("name", "model_id", "names"), IDS, ids=[f"{i[0]}-{i[1]}" for i in IDS])
def test_a_model_id_names_checkpoint_tuning_and_shots(tmp_path, name, model_id, names):
    files(tmp_path)
    dataset = "gsm" if name == INSTRUCTION else "boolq"
    pd.DataFrame([(model_id, dataset, 0.25)], columns=amuro_char.COLUMNS).to_csv(tmp_path / name)
    row = one(tmp_path)
    assert {key: row[key] for key in names} == names
    assert row["prompt"] == names.get("prompt", "default")
    step = 738_020 if row["checkpoint"] == "main" else int(row["checkpoint"].removeprefix("step"))
    assert row["tokens"] == step * 4 * 2**20
    assert (row["study"], row["source"], row["model"]) == (PAPER, "published", "OLMo-1B")
    assert (row["value"], row["split"], row["diverged"]) == (0.25, "test", False)
    assert math.isnan(row["stderr"])


@pytest.mark.parametrize(
    ("name", "dataset", "evaluation", "prompt", "metric"),
    [
        (ALL, "xsum", "xsum", "default", "rouge_l"),
        (ALL, "xsum_instruct", "xsum", "instruction", "rouge_l"),
        (ALL, "mnli_matched_inputoutput", "mnli_matched", "input_output", "accuracy"),
        (ALL, "llmbar_Natural", "llmbar_Natural", "default", "accuracy"),
        (ALL, "sciq", "sciq_questions", "default", "rouge_l"),
        (ALL, "sciq_instruct", "sciq_questions", "instruction", "rouge_l"),
        (OFFICIAL, "sciq", "sciq", "default", "accuracy"),
        (ALL, "rte", "rte", "default", "accuracy"),
        (OFFICIAL, "rte", "rte_harness", "default", "accuracy"),
        (ALL, "qqp", "qqp", "default", "accuracy"),
        (OFFICIAL, "qqp", "qqp_harness", "default", "accuracy"),
        (INSTRUCTION, "toxigen", "toxigen", "default", "toxicity"),
    ],
)
def test_a_data_set_names_evaluation_and_prompt(
    tmp_path, name, dataset, evaluation, prompt, metric
):
    files(tmp_path)
    own = [("checkpoint-1000", dataset, 0.25)]
    pd.DataFrame(own, columns=amuro_char.COLUMNS).to_csv(tmp_path / name)
    row = one(tmp_path)
    assert (row["evaluation"], row["prompt"], row["metric"]) == (evaluation, prompt, metric)


def test_a_row_keeps_its_error_and_becomes_a_row_of_measurements(tmp_path):
    files(
        tmp_path, [("checkpoint-1000_4shots", "xsum", 0.5, 0.02)], [("checkpoint-1000", "sciq", 1)]
    )
    rows, _, _ = amuro_char.read(tmp_path, SETTINGS)
    measurements.write(rows, tmp_path / "rows.parquet", {})
    first, second = measurements.read(tmp_path / "rows.parquet").to_pylist()
    assert (first["value"], first["stderr"], first["shots"]) == (0.5, 0.02, 4)
    assert second["value"] == 1 and math.isnan(second["stderr"]) and second["shots"] is None
    assert first["source"] == second["source"] == "published"


GOOD = ("olmo1b_original_hf_4shots", "paws", 0.5)
NO_ID = "the model id names no checkpoint and recipe"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("olmo1b_original_hf_4shots", "paws", None), "no number"),
        (("olmo1b_original_hf_4shots", "paws", "n/a"), "no number"),
        (("olmo1b_original_hf_4shots", "paws", math.inf), "no number"),
        ((*GOOD[:2], 0.75), "a second value; the first, 0.5, is taken"),
        (GOOD, "a second value; the first, 0.5, is taken"),
        (("llama7b_original_hf_4shots", "paws", 0.1), NO_ID),
        (("olmo1b_hf_main_boolq_3epoch_2e-6_4shots", "paws", 0.1), NO_ID),
        (("olmo1b_original_hf_16shots", "paws", 0.1), NO_ID),
        ((None, "paws", 0.1), NO_ID),
        (
            ("checkpoint-2000_4shots", "paws", 0.1),
            "step2000 is not among the study's checkpoints",
        ),
        (
            ("olmo1b_original_hf_4shots", "squad", 0.1),
            "squad is not among the study's evaluations",
        ),
        (
            ("olmo1b_original_hf_4shots", None, 0.1),
            "nan is not among the study's evaluations",
        ),
    ],
)
def test_a_row_that_is_no_measurement_is_listed_with_the_reason(tmp_path, row, reason):
    rows, mapping, left_out = amuro_char.read(files(tmp_path, [GOOD, row]), SETTINGS)
    assert [r["value"] for r in rows] == [0.5]
    assert left_out.reason.tolist() == [reason]
    listed = left_out[["file", *amuro_char.COLUMNS]].iloc[0]
    wanted = [math.nan if value in (None, "n/a") else value for value in (ALL, *row)]
    assert [str(value) for value in listed] == [str(value) for value in wanted]
    unknown = "not among" in reason or reason == NO_ID
    assert len(mapping) == (1 if unknown else 2)


def test_a_number_that_is_missing_hides_no_later_one(tmp_path):
    rows, _, left_out = amuro_char.read(
        files(tmp_path, [(*GOOD[:2], None), GOOD, (*GOOD[:2], 0.6)]), SETTINGS
    )
    assert [row["value"] for row in rows] == [0.5]
    assert left_out.reason.tolist() == ["no number", "a second value; the first, 0.5, is taken"]


def test_one_identity_in_two_files_counts_once_and_shots_tell_them_apart(tmp_path):
    own = "olmo1b_original_hf"
    folder = files(tmp_path, [(own, "boolq", 0.5)], [(own, "boolq", 0.6)], [(own, "boolq", 0.7)])
    rows, _, left_out = amuro_char.read(folder, SETTINGS)
    assert [(row["value"], row["shots"]) for row in rows] == [(0.5, 0), (0.6, None)]
    assert left_out.file.tolist() == [INSTRUCTION]


def test_of_two_values_that_of_converted_weights_is_taken(tmp_path):
    rows = [
        ("olmo1b_tulu_5epoch_2e-6", "mmlu", 0.3),
        ("olmo1b_hf_main_tulu_5epoch_2e-6", "mmlu", 0.4),
    ]
    rows += [("olmo1b_original", "mmlu", 0.1), ("olmo1b_hf_original", "mmlu", 0.2)]
    found, _, left_out = amuro_char.read(files(tmp_path, instruction=rows), SETTINGS)
    assert sorted(row["value"] for row in found) == [0.2, 0.4]
    assert left_out.model_id.tolist() == ["olmo1b_tulu_5epoch_2e-6", "olmo1b_original"]


def test_nothing_left_out_is_a_table_with_columns_and_no_rows(tmp_path):
    _, _, left_out = amuro_char.read(files(tmp_path, [GOOD]), SETTINGS)
    assert left_out.empty and list(left_out.columns) == ["file", *amuro_char.COLUMNS, "reason"]


def line(function, *arguments) -> str:
    """The one line of the PipelineError that a call raises."""
    with pytest.raises(PipelineError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("column", amuro_char.COLUMNS)
def test_a_missing_column_is_one_line_with_the_file_and_what_it_has(tmp_path, column):
    path = files(tmp_path, [GOOD]) / OFFICIAL
    pd.read_csv(path).drop(columns=column).assign(other=1).to_csv(path, index=False)
    text = line(amuro_char.read, tmp_path, SETTINGS)
    assert text.startswith(f"{path}: no column {column!r}; it has ") and "'other'" in text


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b'a,b\n"1,2\n'])
def test_a_file_that_is_missing_or_unreadable_is_one_line(tmp_path, content):
    path = files(tmp_path, [GOOD]) / OFFICIAL
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert line(amuro_char.read, tmp_path, SETTINGS).startswith(f"{path}: not readable as CSV (")


# --- gains and ratios -----------------------------------------------------------------------------


def scores(*rows: tuple) -> pd.DataFrame:
    """Paired rows of (task, evaluation, checkpoint, base, fine-tuned); None for what is missing."""
    found, bases = [], {}
    for task, evaluation, checkpoint, base, tuned in rows:
        where = {"source": "published", "model": "m", "checkpoint": checkpoint}
        where |= {"evaluation": evaluation, "metric": "accuracy", "prompt": "default"}
        bases[evaluation, checkpoint] = (where, base)
        if tuned is not None:
            found.append(where | {"task": task, "selection": "last", "value": tuned})
    for where, base in bases.values():
        if base is not None:
            found.append(where | {"task": None, "selection": "base", "value": base})
    return with_base(pd.DataFrame(found, columns=measurements.SCHEMA.names))


def test_the_base_is_that_of_the_same_checkpoint_evaluation_shots_prompt_and_source():
    own = {"source": "published", "model": "m", "checkpoint": "main", "evaluation": "paws"}
    own |= {"metric": "accuracy", "shots": 4, "prompt": "default"}
    base = own | {"selection": "base", "task": None}
    others = [
        base | {"source": "ours", "value": 0.1},
        base | {"model": "n", "value": 0.2},
        base | {"checkpoint": "step1", "value": 0.3},
        base | {"evaluation": "xsum", "value": 0.4},
        base | {"shots": None, "value": 0.5},
        base | {"prompt": "instruction", "value": 0.6},
    ]
    tuned = own | {"selection": "last", "task": "mnli", "value": 0.9}
    columns = measurements.SCHEMA.names
    alone = with_base(pd.DataFrame([tuned, *others], columns=columns))
    assert alone.value.tolist() == [0.9] and alone.value_base.isna().all()
    own_base = base | {"value": 0.7}
    found = with_base(pd.DataFrame([*others, tuned, own_base], columns=columns))
    assert found[["value", "value_base"]].to_numpy().tolist() == [[0.9, 0.7]]


def test_bases_without_a_number_of_shots_are_found(tmp_path):
    rows = [
        ("checkpoint-1000", "sciq", 0.25),
        ("olmo1b_hf_ckpt1000_tulu_5epoch_2e-6", "sciq", 0.75),
    ]
    found, _, _ = amuro_char.read(files(tmp_path, official=rows), SETTINGS)
    measurements.write(found, tmp_path / "rows.parquet", {})
    pairs = with_base(measurements.read(tmp_path / "rows.parquet").to_pandas())
    assert pairs[["value", "value_base"]].to_numpy().tolist() == [[0.75, 0.25]]


def member(evaluation: str, task: str = "mnli") -> dict:
    return {"task": task, "evaluation": evaluation}


GAINS = [("mnli", "xsum", "a", 0.5, 0.75), ("mnli", "paws", "a", 0.25, 1.25)]


def test_a_member_that_stands_twice_counts_twice():
    groups = {"one": [member("xsum")], "once": [member("xsum"), member("paws")]}
    groups["twice"] = [*groups["once"], member("paws")]
    more = [("mnli", "xsum", "b", 1.0, 0.0), ("mnli", "paws", "b", 0.0, 0.5)]
    found = mean_gains(scores(*GAINS, *more), groups, ["b", "a"])
    assert found.to_dict("records") == [
        {"checkpoint": "b", "one": -1.0, "once": -0.25, "twice": 0.0},
        {"checkpoint": "a", "one": 0.25, "once": 0.625, "twice": 0.75},
    ]


def test_a_checkpoint_missing_from_one_group_is_one_line():
    pairs = scores(*GAINS, ("mnli", "xsum", "b", 0.5, 0.75), ("mnli", "paws", "b", 0.5, None))
    groups = {"one": [member("xsum")], "other": [member("paws")]}
    assert line(mean_gains, pairs, groups, ["a", "b"]) == (
        "paws after fine-tuning on mnli, checkpoint b: there is no such measurement"
    )


def test_a_missing_base_is_one_line():
    pairs = scores(("mnli", "xsum", "a", None, 0.75))
    expected = "xsum after fine-tuning on mnli, checkpoint a: the base model's score is missing"
    assert line(mean_gains, pairs, {"g": [member("xsum")]}, ["a"]) == expected
    assert line(ratios, pairs, ["mnli"], ["xsum"], ["a"]) == expected


def test_ratios_are_of_every_cell_but_those_on_the_tasks_own_data():
    pairs = scores(
        ("mnli", "xsum", "a", 0.5, 0.25),
        ("mnli", "xsum", "b", 0.25, 1.0),
        ("mnli", "mnli_matched", "a", 0.5, 0.9),
        ("paws", "xsum", "a", 0.5, 0.5),
        ("paws", "xsum", "b", 0.25, 0.0),
    )
    found = ratios(pairs, ["mnli", "paws"], ["xsum"], ["a", "b"])
    assert found.ratio.tolist() == [-0.5, 3.0, 0.0, -1.0]
    assert found.columns.tolist() == [
        "task",
        "evaluation",
        "checkpoint",
        "base",
        "fine_tuned",
        "ratio",
    ]
    found = ratios(pairs, ["mnli"], ["mnli_matched", "xsum"], ["a"])
    assert found[["evaluation", "base", "fine_tuned"]].to_numpy().tolist() == [["xsum", 0.5, 0.25]]


def test_a_base_of_zero_is_one_line():
    pairs = scores(("mnli", "xsum", "a", 0.0, 0.25))
    text = line(ratios, pairs, ["mnli"], ["xsum"], ["a"])
    assert text.startswith("xsum, checkpoint a: the base score is zero; no ratio of change")


def test_a_cell_missing_from_the_ratios_is_one_line():
    pairs = scores(("mnli", "xsum", "a", 0.5, 0.25))
    text = line(ratios, pairs, ["mnli"], ["xsum"], ["a", "b"])
    assert text == "xsum after fine-tuning on mnli, checkpoint b: there is no such measurement"
