"""What scripts have of Snakemake: paths, identity, hashes of inputs, the log and its one line."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from snakemake.iocontainers import Namedlist

from job import Job, TorchJob
from overtrain import PipelineError
from overtrain.config.files import load
from overtrain.records import measurements
from overtrain.records.provenance import sha256

ROOT = Path(__file__).parents[2]
RUN = {"model": "OLMo-10K-hub", "checkpoint": "0.84M", "task": "t", "recipe": "instruct"}


@pytest.fixture(scope="module")
def config() -> dict:
    return load(ROOT, {}).config


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch) -> None:
    """Where a job's locks and states are."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def offline(monkeypatch) -> list[bool]:
    """Whether a job had the hub's libraries stay offline, which this process must not."""
    asked = []
    monkeypatch.setattr("job.stay_offline", lambda: asked.append(True))
    return asked


@pytest.fixture
def snakemake(config) -> Callable[..., SimpleNamespace]:
    """The object of a job with these inputs, wildcards, ..."""

    def make(*, inputs: dict | None = None, outputs: dict | None = None, gpu: int = 0, **wildcards):
        return SimpleNamespace(
            input=Namedlist(fromdict=inputs or {}),
            output=Namedlist(fromdict=outputs or {}),
            wildcards=Namedlist(fromdict=wildcards),
            params=SimpleNamespace(config='{"a": 1}'),
            resources=Namedlist(fromdict={"gpu": gpu, "mem_mb": 1000}),
            config=config,
            threads=1,
            log=[],
            rule="a_rule",
        )

    return make


def test_inputs_are_paths_and_lists_of_paths(snakemake):
    job = Job(snakemake(inputs={"one": "a/b", "several": ["c"], "none": []}))
    assert vars(job.input) == {"one": Path("a/b"), "several": [Path("c")], "none": []}


def test_each_run_has_an_identity_and_a_state_of_its_own(snakemake):
    first, second = (Job(snakemake(**RUN, run=run)) for run in ("lr1e-05-seed0", "lr1e-05-seed1"))
    assert first.state != second.state
    assert first.identity["learning_rate"] == 1e-5 and first.identity["selection"] == "last"
    assert second.identity == first.identity | {"seed": 1}
    base = Job(snakemake(model="OLMo-10K-hub", checkpoint="0.84M"))
    assert not {"task", "seed", "selection"} & set(base.identity)
    assert base.identity.items() <= first.identity.items()


def test_provenance_has_the_hash_of_every_input_that_is_data(snakemake, tmp_path):
    corpus, base, runs, model = (tmp_path / name for name in ("corpus", "base", "runs", "model"))
    for folder in (corpus, base, runs, model):
        folder.mkdir()
    (corpus / "manifest.json").write_text('{"sha256": "of the corpus"}')
    (base / "model.safetensors").write_text("weights")
    for name in ("model.safetensors", "provenance.json"):
        (model / name).write_text(name)
    (tmp_path / "file").write_text("text")
    inputs = {"checkpoint": base, "corpus": corpus, "runs": runs, "model": model}
    inputs |= {"file": tmp_path / "file", "after": tmp_path / "file"}
    lists = {"list": [], "several": [str(tmp_path / "file"), str(corpus)]}
    job = Job(snakemake(inputs={n: str(p) for n, p in inputs.items()} | lists, run="r"))
    origin = job.origin()
    both = json.dumps([sha256(tmp_path / "file"), "of the corpus"])
    assert origin["data"] == {
        "checkpoint": sha256(base / "model.safetensors"),
        "corpus": "of the corpus",
        "model": sha256(model / "provenance.json"),  # of a run: its weights are large, or none
        "file": sha256(tmp_path / "file"),
        "several": hashlib.sha256(both.encode()).hexdigest(),
    }
    assert (origin["config"], origin["rule"], origin["run"]) == ({"a": 1}, "a_rule", "r")
    assert job.origin({"own": "hash"})["data"] == {"own": "hash"}


def test_measurements_are_written_with_their_provenance(snakemake, tmp_path):
    path = tmp_path / "rows.parquet"
    job = Job(snakemake(outputs={"measurements": str(path)}))
    job.write([measurements.row({"model": "m"}, "loss", 1.0)])
    assert measurements.read(path)["value"].to_pylist() == [1.0]
    assert measurements.read_provenance(path)["rule"] == "a_rule"


def test_without_a_log_an_error_is_raised_as_it_is(snakemake):
    with pytest.raises(PipelineError, match=r"^wrong$"), Job(snakemake()):
        raise PipelineError("wrong")


@pytest.mark.parametrize("visible", [0, 1])
def test_a_gpu_that_is_not_there_is_an_error_and_fewer_are_said(
    snakemake, capsys, monkeypatch, visible
):
    """Hours of eight GPUs would go by on the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    if visible:
        with TorchJob(snakemake(gpu=8)) as job:
            assert (job.gpus, str(job.device)) == (1, "cuda")
        assert "warning: the rule asks for 8 GPUs; 1 are visible" in capsys.readouterr().out
    else:
        told = "rule a_rule asks for 8 GPUs and none is visible"
        with pytest.raises(PipelineError, match=told), TorchJob(snakemake(gpu=8)):
            pass


def test_a_job_on_a_model_asks_the_hub_nothing(snakemake, offline):
    """A compute node has no internet, and each question would wait for an answer."""
    with Job(snakemake()):
        assert not offline
    with TorchJob(snakemake()):
        assert offline


def test_without_gpus_a_job_has_the_memory_that_it_asks_for(snakemake):
    with TorchJob(snakemake()) as job:
        assert (job.gpus, str(job.device), job.device_name) == (0, "cpu", "cpu")
        assert job.room.memory == 800 * 2**20


def test_a_finished_job_that_starts_again_finds_its_outputs(snakemake, tmp_path, capsys):
    """As after the death of the main process: Snakemake has removed them and starts the job."""
    (tmp_path / "in").write_text("data")
    own = {"inputs": {"data": "in"}, "outputs": {"measurements": "out"}, "model": "m"}

    def run() -> bool:
        """Whether the job did anything."""
        Path("out").unlink(missing_ok=True)
        try:
            with TorchJob(snakemake(**own)) as job:
                assert list(Path("results/state/locks").iterdir())
                job.state.mkdir(parents=True, exist_ok=True)
                Path("out").write_text("made")
        except SystemExit as end:
            assert not end.code
            return False
        return True

    assert run() and not run() and not run()
    assert Path("out").read_text() == "made"
    assert "where an earlier attempt left it" in capsys.readouterr().out
    (tmp_path / "in").write_text("other data")
    assert run() and not run()
    left = sorted(str(p) for p in Path("results/state").rglob("*") if p.is_file())
    assert left == [f"results/state/kept/a_rule,m/{n}" for n in ("identity.json", "measurements")]


def test_a_job_that_fails_keeps_its_state_and_nothing_else(snakemake):
    with pytest.raises(PipelineError), TorchJob(snakemake(outputs={"o": "out"}, model="m")) as job:
        job.state.mkdir(parents=True)
        Path("out").touch()
        raise PipelineError("asked to end")
    assert [str(p) for p in Path("results/state").rglob("*,m*")] == [str(job.state)]


def test_the_last_reader_gives_up_the_weights_and_no_other_job_may_read_them(snakemake):
    sweep = {"model": "m", "checkpoint": "c"}

    def trained():
        own = snakemake(outputs={"runs": "runs", "measurements": "rows"}, **sweep)
        own.rule = "finetune"
        with TorchJob(own):
            Path("runs").mkdir()
            for name in ("000.safetensors", "provenance.json"):
                Path("runs", name).touch()
            Path("rows").touch()

    def read():
        own = snakemake(inputs={"runs": "runs"}, outputs={"measurements": "c4"}, **sweep)
        with TorchJob(own) as job:
            Path("c4").write_text(str(Path("runs/000.safetensors").exists()))
            job.reads_last("finetune", "runs")

    trained()
    read()
    shutil.rmtree("runs")  # the group runs once more, as its end was not recorded
    for path in ("rows", "c4"):
        Path(path).unlink()
    with pytest.raises(SystemExit):
        trained()
    assert not Path("runs/000.safetensors").exists()
    with pytest.raises(SystemExit):
        read()
    assert Path("c4").read_text() == "True"
    shutil.rmtree("results/state/kept/a_rule,m,c")
    with pytest.raises(PipelineError, match=r"^runs: these weights were given up"):
        read()


LOGGED = """
import os, subprocess, sys
from types import SimpleNamespace
from job import Job
from overtrain import PipelineError
from overtrain.config.files import load
empty = SimpleNamespace(items=lambda: (), get=lambda *_: 0)
with Job(SimpleNamespace(input=empty, output=empty, wildcards=empty, resources=empty,
                         rule="a_rule", threads=1, config={}, log=[sys.argv[1]])):
    print("printed")
    subprocess.run(["echo", "by a child"])
    print("torch" in sys.modules, "pyarrow" in sys.modules)
    what = sys.argv[2]
    if what == "wrong":
        raise PipelineError("what is wrong")
    if what == "full":
        raise RuntimeError("cannot write") from OSError(28, os.strerror(28))
    if what == "fault":
        raise ValueError("a fault")
"""


@pytest.mark.parametrize(
    "what, status, last",
    [
        ("right", 0, "work: "),
        ("wrong", 1, "error: what is wrong"),
        ("full", 1, "error: no space left on the disk that holds "),
        ("fault", 1, "ValueError: a fault"),
    ],
)
def test_a_log_takes_all_output_and_ends_with_one_line(tmp_path, what, status, last):
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", LOGGED, log, what],
        env={"PYTHONPATH": str(ROOT / "scripts")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    lines = log.read_text().splitlines()
    told = f"{lines[-1]}\n" if what in ("wrong", "full") else ""  # a full disk holds no log
    assert (done.returncode, done.stdout, done.stderr) == (status, "", told)
    assert lines[:3] == ["printed", "by a child", "False False"]  # neither torch nor pyarrow
    assert lines[-1].startswith(last)
    assert len(lines) == 4 or what == "fault"  # whose traceback is wanted
