"""Tables of measurements: their columns, provenance and diverged rows, and what is unreadable."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overtrain import PipelineError
from overtrain.records.measurements import SCHEMA, loss_rows, read, read_provenance, row, write

IDENTITY = {"study": "controlled", "model": "tiny", "tokens": 4 * 10**9, "learning_rate": 1e-5}


def test_rows_come_back_with_their_provenance_and_null_where_nothing_was_said(tmp_path):
    rows = [
        row(IDENTITY | {"epoch": 2}, "accuracy", 0.75, 0.01, 200),
        row(IDENTITY, "l2_distance", 3.5),
    ]
    origin = {"commit": "abc", "config": {"b": [1, 2.5], "a": None}}
    path = tmp_path / "deep" / "er" / "rows.parquet"
    write(rows, path, origin)
    table = read(path)
    assert table.schema.equals(SCHEMA)  # names and types; metadata aside
    first, second = table.to_pylist()
    assert {k: v for k, v in first.items() if v is not None} == rows[0] | {"source": "ours"}
    assert second["value"] == 3.5 and second["n"] == 1 and math.isnan(second["stderr"])
    assert second["epoch"] is None and second["gamma"] is None and second["diverged"] is False
    assert read_provenance(path) == origin
    assert [p.name for p in path.parent.iterdir()] == ["rows.parquet"]


def test_a_row_says_whose_it_is_and_how_it_was_prompted(tmp_path):
    published = IDENTITY | {"source": "published", "shots": 4, "prompt": "instruction"}
    rows = [row(published, "accuracy", 0.5), row(IDENTITY, "accuracy", 0.25)]
    write(rows, tmp_path / "rows.parquet", {})
    found = read(tmp_path / "rows.parquet").select(["source", "shots", "prompt"]).to_pylist()
    assert found == [
        {"source": "published", "shots": 4, "prompt": "instruction"},
        {"source": "ours", "shots": None, "prompt": None},
    ]
    assert "source" not in rows[1]  # what is written is not changed


def test_an_aggregate_holds_the_rows_of_its_kind_and_of_the_values_asked_for(tmp_path):
    from overtrain.figures.aggregate import aggregate

    own = {"evaluation": "paws", "prompt": "default", "shots": 4, "selection": "base"}
    others = [
        {"evaluation": "xsum"},
        {"prompt": "instruction"},
        {"shots": 2},
        {"selection": "best"},
        {"metric": "toxicity"},
    ]
    rows = [row(own, "accuracy", 1.0), row(own | {"shots": None}, "rouge_l", 2.0)]
    rows += [row(own, "accuracy", 9.0) | other for other in others]
    write(rows, tmp_path / "published.parquet", {"from": "there"})
    write([row(own, "accuracy", 3.0)], tmp_path / "ours.parquet", {"from": "here"})
    files = [tmp_path / "published.parquet", tmp_path / "ours.parquet"]
    kind = {"metric": ["accuracy", "rouge_l"], "selection": ["base", "last"]}
    only = {"evaluation": ["paws"], "prompt": ["default"], "shots": [4, None]}
    table = aggregate(files, kind | only, tmp_path / "all.parquet", {"rule": "a"})
    assert table["value"].to_pylist() == [1.0, 2.0, 3.0]
    assert read(tmp_path / "all.parquet")["value"].to_pylist() == [1.0, 2.0, 3.0]
    table = aggregate(files, kind, tmp_path / "more.parquet", {})
    assert len(table) == 6  # all but another selection and metric
    origin = read_provenance(tmp_path / "all.parquet")
    sources = {path: source["provenance"] for path, source in origin.pop("sources").items()}
    assert origin == {"rule": "a"}
    assert sources == {str(files[0]): {"from": "there"}, str(files[1]): {"from": "here"}}


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    write([], tmp_path / "none.parquet", {})
    assert read(tmp_path / "none.parquet").num_rows == 0


def test_a_file_from_before_a_column_was_added_is_read_with_null_there(tmp_path):
    path = tmp_path / "rows.parquet"
    write([row(IDENTITY | {"seed": 3}, "loss", 1.0)], path, {"by": "us"})
    pq.write_table(pq.read_table(path).drop_columns(["gamma", "n"]), path)
    table = read(path)
    assert table.schema.equals(SCHEMA) and read_provenance(path) == {"by": "us"}
    (found,) = table.to_pylist()
    assert (found["gamma"], found["n"], found["seed"], found["value"]) == (None, None, 3, 1.0)


def test_equal_work_gives_equal_bytes(tmp_path):
    rows = [row(IDENTITY, "loss", 1.25, 0.5, 3)]
    write(rows, tmp_path / "a.parquet", {"x": 1, "y": 2})
    write(rows, tmp_path / "b.parquet", {"y": 2, "x": 1})
    write(rows, tmp_path / "c.parquet", {"y": 2, "x": 2})
    contents = [(tmp_path / f"{name}.parquet").read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


def test_a_column_that_does_not_exist_is_refused_and_nothing_written(tmp_path):
    rows = [row(IDENTITY, "loss", 1.0), row(IDENTITY | {"lr": 1e-5}, "loss", 1.0)]
    with pytest.raises(ValueError, match=r"no measurement column \['lr'\]"):
        write(rows, tmp_path / "rows.parquet", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_marks_a_diverged_run(value, tmp_path):
    write([row(IDENTITY, "loss", value), row(IDENTITY, "loss", 2.0)], tmp_path / "r.parquet", {})
    diverged, healthy = read(tmp_path / "r.parquet").to_pylist()
    assert diverged["diverged"] is True and math.isnan(diverged["value"])
    assert healthy["diverged"] is False and healthy["value"] == 2.0


def test_perplexity_is_the_exponential_of_the_loss_and_its_error_follows():
    loss, perplexity = loss_rows(IDENTITY, 2.0, 0.01, 50)
    assert (loss["metric"], loss["value"], loss["stderr"], loss["n"]) == ("loss", 2.0, 0.01, 50)
    assert perplexity["metric"] == "perplexity" and perplexity["n"] == 50
    assert perplexity["value"] == pytest.approx(7.38905609893065)
    change = (math.exp(2.0 + 1e-4) - math.exp(2.0 - 1e-4)) / 2e-4 * 0.01
    assert perplexity["stderr"] == pytest.approx(change)


def test_a_loss_too_large_for_a_perplexity_diverges_instead_of_failing():
    loss, perplexity = loss_rows(IDENTITY, 1e4, 1.0, 50)
    assert loss["value"] == 1e4
    assert perplexity["diverged"] and math.isnan(perplexity["value"])
    assert all(r["diverged"] for r in loss_rows(IDENTITY, math.nan, math.nan, 50))


def test_a_missing_column_and_a_damaged_file_are_one_clear_line(tmp_path):
    path = tmp_path / "rows.parquet"
    write([row(IDENTITY, "loss", 1.0)], path, {})
    pq.write_table(pq.read_table(path).drop_columns(["metric"]), path)
    with pytest.raises(PipelineError, match=r"rows.parquet: no column 'metric'"):
        read(path)
    content = path.read_bytes()
    for damaged in (b"", b"not parquet", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(PipelineError, match=r"rows.parquet: not a readable") as error:
            read(path)
        assert "\n" not in str(error.value)
    with pytest.raises(PipelineError, match=r"none.parquet: not a readable"):
        read(tmp_path / "none.parquet")


def test_a_file_of_others_has_no_provenance(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    assert read_provenance(tmp_path / "other.parquet") == {}
