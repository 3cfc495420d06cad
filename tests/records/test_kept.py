"""Outputs that are kept until they are recorded: taken by the same job, and by no other."""

import json

import pytest

from overtrain.records import kept

OF = {"config": {"learning_rate": 1e-3, "seeds": (0, 1)}, "data": {"corpus": "abc"}}


@pytest.fixture
def outputs(tmp_path):
    """A file and a folder, as a job has made them."""
    file, folder = tmp_path / "results/rows.parquet", tmp_path / "results/0.84M"
    folder.mkdir(parents=True)
    file.write_text("rows")
    (folder / "model.safetensors").write_text("weights")
    (folder / "provenance.json").write_text("origin")
    return {"measurements": file, "runs": folder}


def clear(outputs):
    """As Snakemake does before a job starts; it may leave an empty folder."""
    outputs["measurements"].unlink()
    for path in outputs["runs"].iterdir():
        path.unlink()


def test_the_same_job_finds_its_outputs_as_they_were(tmp_path, outputs):
    place = tmp_path / "kept" / "a_rule,m"
    kept.keep(place, outputs, OF)
    same = (outputs["runs"] / "model.safetensors").stat().st_ino
    clear(outputs)
    assert kept.take(place, outputs, OF)
    assert outputs["measurements"].read_text() == "rows"
    assert (outputs["runs"] / "model.safetensors").read_text() == "weights"
    assert (outputs["runs"] / "model.safetensors").stat().st_ino == same  # costs no disk
    clear(outputs)
    assert kept.take(place, outputs, OF)  # as often as it starts


def test_a_job_of_other_settings_or_data_finds_nothing(tmp_path, outputs):
    place = tmp_path / "kept"
    assert not kept.take(place, outputs, OF)
    kept.keep(place, outputs, OF)
    clear(outputs)
    for other in (OF | {"data": {"corpus": "abd"}}, OF | {"config": {"learning_rate": 1e-4}}):
        assert not kept.take(place, outputs, other)
        assert not outputs["measurements"].exists()


def test_a_later_result_replaces_an_earlier_one(tmp_path, outputs):
    place = tmp_path / "kept"
    kept.keep(place, outputs, OF)
    outputs["measurements"].unlink()  # a new file: the kept one is another name of the old
    outputs["measurements"].write_text("new rows")
    kept.keep(place, outputs, OF | {"data": {}})
    assert not kept.take(place, outputs, OF)
    assert kept.take(place, outputs, OF | {"data": {}})
    assert outputs["measurements"].read_text() == "new rows"


def test_spent_weights_take_no_disk_and_say_what_they_were(tmp_path, outputs):
    place = tmp_path / "kept"
    kept.keep(place, outputs, OF)
    clear(outputs)
    kept.spend(place, "runs")
    kept.spend(tmp_path / "nothing", "runs")
    assert kept.take(place, outputs, OF)
    assert {path.name for path in outputs["runs"].iterdir()} == {"provenance.json", kept.SPENT}
    assert (outputs["runs"] / "provenance.json").read_text() == "origin"
    assert outputs["measurements"].read_text() == "rows"


def test_outputs_taken_are_as_new_as_their_taking(tmp_path, outputs):
    """Older than an input that was taken just before, Snakemake would make them again."""
    import os

    os.utime(outputs["measurements"], (1, 1))
    kept.keep(tmp_path / "kept", outputs, OF)
    clear(outputs)
    kept.take(tmp_path / "kept", outputs, OF)
    assert outputs["measurements"].stat().st_mtime > 1e9


def test_what_is_kept_says_where_it_belongs(tmp_path, outputs):
    kept.keep(tmp_path / "kept", outputs, OF)
    content = kept.read(tmp_path / "kept")
    assert content["outputs"] == {name: str(path) for name, path in outputs.items()}
    assert content["of"] == json.loads(json.dumps(OF)) and kept.read(tmp_path / "no") == {}
