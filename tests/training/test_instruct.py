"""Instruction tuning: TRL's steps are the paper's, runs go on after a kill, LoRA merges exactly."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from configuration import PAPERS
from safetensors.torch import load_file
from stories import ANIMALS, STONES, VERBS, write_task
from transformers import AutoModelForCausalLM, AutoTokenizer

from overtrain import PipelineError
from overtrain.data.tasks import read_split
from overtrain.model import chat
from overtrain.model.architecture import IGNORE
from overtrain.training import instruct, processes, states
from overtrain.training.instruct import Folders, Tuning
from overtrain.training.processes import Processes

LIBRARY = Path(__file__).parents[2] / "scripts"
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ m.content + ': ' }}{% endif %}"
    "{% endfor %}"
)
NEVER = 1e9  # minutes between states
ASKED = "asked to end at step {} of 60; the next attempt goes on from there\n"
LEFT = ["identity.json", "losses.json", "trained.safetensors"]  # in the state of one that ended
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "modules": "all-linear"}
IDENTITY = {"study": "released", "model": "tiny", "checkpoint": "1T", "tokens": 10**12,
            "pretraining_seed": 0, "task": "talk", "recipe": "instruct"}  # fmt: skip
ORIGIN = {"data": {"checkpoint": "hash", "train": "hash"}}


@pytest.fixture(scope="module")
def tuning() -> Tuning:
    """12 steps of 4 conversations."""
    return Tuning(
        model="tiny",
        task="talk",
        recipe="instruct",
        learning_rate=3e-3,
        seed=0,
        batch_size=4,
        epochs=2,
        scheduler="cosine",
        warmup_steps=2,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        clip=1.0,
        max_length=32,
        precision="bf16",
        lora=None,
        template=TEMPLATE,
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    """Who does what to a stone: 26 conversations to train on (two more than whole batches), 9."""
    draw, pairs = random.Random(3), []
    for animal in ANIMALS:
        for verb in VERBS[:4]:
            answer = f"{verb} {draw.choice(STONES)}"[: draw.randint(6, 17)]
            pairs.append((f"the {animal} {verb[:2]}", answer))
    draw.shuffle(pairs)
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in pairs
    ]
    splits = {"train": rows[:26], "validation": rows[26:30], "test": rows[30:39]}
    return write_task(tmp_path_factory.mktemp("tasks") / "talk", "chat", splits)


def tune(
    tuning: Tuning,
    base: Path,
    task: Path,
    folder: Path,
    several: Processes | None = None,
    origin: dict = ORIGIN,
) -> list:
    torch.set_num_threads(1)
    several = several or Processes(micro_batch=4, state_minutes=NEVER)
    return instruct.finetune_instruct(
        tuning, several, Folders(base, task, folder / "out", folder / "state"), IDENTITY, origin
    )


def left_of(state: Path) -> list[str]:
    return sorted(path.name for path in state.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def run(tuning, checkpoint, task, tmp_path_factory) -> tuple[list[dict], Path]:
    """The measurements of the tuning, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    return tune(tuning, checkpoint, task, folder), folder


def numbers(rows: list[dict]) -> dict[tuple[str, str, str], float]:
    return {(r["evaluation"], r["split"], r["metric"]): r["value"] for r in rows}


def error_line(action: object) -> str:
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- the run --------------------------------------------------------------------------------------


def test_what_a_run_leaves(run, tuning, checkpoint):
    rows, folder = run
    assert sorted(contents(folder / "out")) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "provenance.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert left_of(folder / "state") == LEFT
    model = AutoModelForCausalLM.from_pretrained(folder / "out")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert AutoTokenizer.from_pretrained(folder / "out").chat_template == TEMPLATE
    assert json.loads((folder / "out/provenance.json").read_text()) == ORIGIN
    own = IDENTITY | {"learning_rate": 3e-3, "seed": 0, "selection": "last", "diverged": False}
    assert all(own.items() <= row.items() for row in rows)
    tuned, base = (
        load_file(folder / "out/model.safetensors"),
        load_file(checkpoint / "model.safetensors"),
    )
    distance = torch.cat([(tuned[n] - base[n]).flatten() for n in base]).double().norm()
    assert numbers(rows)["training", "train", "l2_distance"] == pytest.approx(distance.item())


def response_loss(
    model, tokenizer, rows: list[dict], joint: str = ": "
) -> tuple[torch.Tensor, int]:
    """Summed loss and count of the responses' tokens, one conversation at a time, by hand."""
    total, count = 0.0, 0
    for row in rows:
        question, answer = (m["content"] for m in row["messages"])
        ids = tokenizer(question + joint + answer + "\n")["input_ids"]
        start = len(question + joint)  # a token is a character
        logits = model(torch.tensor([ids])).logits[0]
        total = total + F.cross_entropy(
            logits[start - 1 : -1], torch.tensor(ids[start:]), reduction="sum"
        )
        count += len(ids) - start
    return total, count


def test_held_out_loss_is_that_of_the_responses_by_hand(run, task):
    rows, folder = run
    model = AutoModelForCausalLM.from_pretrained(folder / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder / "out")
    with torch.no_grad():
        total, count = response_loss(model, tokenizer, read_split(task, "test", "chat"))
    found = numbers(rows)
    assert found["id", "test", "loss"] == pytest.approx(total.item() / count, rel=1e-5)
    assert found["id", "test", "perplexity"] == pytest.approx(
        np.exp(total.item() / count), rel=1e-5
    )
    assert {r["n"] for r in rows if r["evaluation"] == "id"} == {9}


def test_a_step_is_adamw_on_the_mean_over_the_batch_s_response_tokens(
    tuning, checkpoint, task, tmp_path
):
    """One batch of all 26, two of each gradient apart: against torch's AdamW by hand."""
    one = replace(tuning, batch_size=26, epochs=1, warmup_steps=0, clip=None)
    rows = tune(one, checkpoint, task, tmp_path, Processes(micro_batch=2, state_minutes=NEVER))
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    total, count = response_loss(model, tokenizer, read_split(task, "train", "chat"))
    (total / count).backward()
    torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.999), weight_decay=0.0).step()
    found = load_file(tmp_path / "out/model.safetensors")
    for name, expected in model.named_parameters():
        torch.testing.assert_close(found[name], expected.detach(), rtol=0, atol=2e-5)
    assert numbers(rows)["training", "train", "loss"] == pytest.approx(
        total.item() / count, rel=1e-5
    )


COMPLETION = PAPERS["instruction_recipes"]["completion"]["template"]


def test_the_template_of_prompted_tasks_is_prompt_answer_and_end(checkpoint):
    tokenizer = chat.load_tokenizer(checkpoint, COMPLETION)
    turns = [{"role": "user", "content": "is it:"}, {"role": "assistant", "content": " yes"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "is it: yes" + tokenizer.eos_token
    ((ids, mask),) = chat.encoded([turns], tokenizer)
    assert tokenizer.decode([i for i, own in zip(ids, mask, strict=True) if own]) == (
        " yes" + tokenizer.eos_token
    )


def test_prompted_steps_are_a_plain_loop_s(tuning, checkpoint, task, tmp_path):
    """Four steps on all 26: a quarter of them warm-up, then linearly to nothing."""
    rows = read_split(task, "train", "chat")
    own = replace(
        tuning, template=COMPLETION, batch_size=26, epochs=4, scheduler="linear",
        warmup_steps=0.25, betas=(0.9, 0.999),
    )  # fmt: skip
    tune(own, checkpoint, task, tmp_path, Processes(micro_batch=2, state_minutes=NEVER))
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    steps = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.999), weight_decay=0.0)
    for rate in (0.0, 3e-3, 2e-3, 1e-3):  # warm-up of one step begins at nothing
        total, count = response_loss(model, tokenizer, rows, joint="")
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.param_groups[0]["lr"] = rate
        steps.step()
        steps.zero_grad()
    found = load_file(tmp_path / "out/model.safetensors")
    for name, expected in model.named_parameters():
        torch.testing.assert_close(found[name], expected.detach(), rtol=0, atol=2e-5)


def test_equal_bytes_for_equal_seeds_and_others_for_others(run, tuning, checkpoint, task, tmp_path):
    rows, folder = run
    assert tune(tuning, checkpoint, task, tmp_path / "again") == rows
    assert contents(tmp_path / "again/out") == contents(folder / "out")
    tune(replace(tuning, seed=1), checkpoint, task, tmp_path / "other")
    other = load_file(tmp_path / "other/out/model.safetensors")
    own = load_file(folder / "out/model.safetensors")
    assert not any(torch.equal(other[name], own[name]) for name in own)


def test_micro_batches_change_nothing_but_rounding(run, tuning, checkpoint, task, tmp_path):
    tune(tuning, checkpoint, task, tmp_path, Processes(micro_batch=1, state_minutes=NEVER))
    own = load_file(run[1] / "out/model.safetensors")
    for name, tensor in load_file(tmp_path / "out/model.safetensors").items():
        torch.testing.assert_close(tensor, own[name], rtol=0, atol=1e-5)


def test_batches_are_whole_any_examples_and_sorted_inside(tuning):
    lengths = [(7 * i) % 23 for i in range(26)]
    order = instruct.batches(lengths, tuning)
    assert order.shape == (12, 4)
    for epoch in (order[:6], order[6:]):
        assert len(set(epoch.ravel())) == 24
    assert set(order[:6].ravel()) != set(order[6:].ravel())
    sorted_ = np.array(lengths)[order]
    assert (np.diff(sorted_, axis=1) <= 0).all()
    assert not (np.diff(sorted_.mean(1)) <= 0).all()  # but not from batch to batch
    assert (instruct.batches(lengths, replace(tuning, learning_rate=1.0)) == order).all()
    assert (instruct.batches(lengths, replace(tuning, seed=1)) != order).any()
    line = error_line(lambda: instruct.batches([5, 6, 7], tuning))
    assert line == "3 examples to train on are less than one batch, 4"


def test_tokens_and_masks_are_those_that_trl_makes_itself(tuning, checkpoint, task, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = read_split(task, "train", "chat")
    tokenizer = chat.load_tokenizer(checkpoint, TEMPLATE)
    theirs = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(checkpoint),
        args=SFTConfig(
            str(tmp_path), assistant_only_loss=True, max_length=24, use_cpu=True, bf16=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train_dataset  # fmt: skip
    ids, labels, counts = chat.encode([r["messages"] for r in rows], tokenizer, 24)
    assert counts["truncated"] > 0
    assert [own.tolist() for own in ids] == list(theirs["input_ids"])
    assert [own.tolist() for own in labels] == list(theirs["labels"])


def test_a_run_that_diverges_leaves_a_marker_and_rows_of_nan(tuning, checkpoint, task, tmp_path):
    rows = tune(replace(tuning, learning_rate=1e30, clip=None), checkpoint, task, tmp_path)
    assert sorted(contents(tmp_path / "out")) == ["diverged.json", "provenance.json"]
    found = json.loads((tmp_path / "out/diverged.json").read_text())
    assert 2 <= found["step"] < found["steps"] == 12
    assert len(rows) == 4 and all(r["diverged"] and np.isnan(r["value"]) for r in rows)
    assert left_of(tmp_path / "state") == ["identity.json", "losses.json"]


def test_warm_up_that_never_ends_is_said_and_still_run(tuning, checkpoint, task, tmp_path, capsys):
    tune(replace(tuning, warmup_steps=20), checkpoint, task, tmp_path)
    assert "warning: 12 steps in all: warm-up over 20 never ends" in capsys.readouterr().out
    assert (tmp_path / "out/model.safetensors").exists()


# --- one that starts again ------------------------------------------------------------------------


def test_a_run_trained_to_its_end_is_not_trained_again(tuning, checkpoint, task, tmp_path, capsys):
    """As where the time limit falls between its last step and its last output."""
    rows, out = tune(tuning, checkpoint, task, tmp_path), tmp_path / "out"
    first = contents(out)
    shutil.rmtree(out)
    capsys.readouterr()
    again = tune(tuning, checkpoint, task, tmp_path)
    said = capsys.readouterr().out
    assert "trained to the end by an earlier attempt" in said and "step 12:" not in said
    assert (again, contents(out)) == (rows, first)


def test_a_state_of_another_base_is_discarded(tuning, checkpoint, task, tmp_path, capsys):
    short = replace(tuning, epochs=1)
    tune(short, checkpoint, task, tmp_path)
    other = {"data": ORIGIN["data"] | {"checkpoint": "other"}}
    tune(short, checkpoint, task, tmp_path, origin=other)
    said = capsys.readouterr().out
    assert "a state of other settings was found and is discarded" in said
    assert "an earlier attempt" not in said and said.count("step 6:") == 2
    assert json.loads((tmp_path / "out/provenance.json").read_text()) == other


def test_a_run_that_diverged_stays_so(tuning, checkpoint, task, tmp_path, capsys):
    wild = replace(tuning, learning_rate=1e30, clip=None)
    rows = tune(wild, checkpoint, task, tmp_path)
    again = tune(wild, checkpoint, task, tmp_path)
    assert "an earlier attempt" in capsys.readouterr().out
    np.testing.assert_equal(again, rows)
    assert sorted(contents(tmp_path / "out")) == ["diverged.json", "provenance.json"]


# --- LoRA -----------------------------------------------------------------------------------------


def test_merged_weights_say_what_the_adapter_says(tuning, checkpoint, task, tmp_path):
    from peft import get_peft_model

    own = replace(tuning, lora=LORA, learning_rate=3e-2)
    rows = tune(own, checkpoint, task, tmp_path)
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert {n for n, _ in tuned.named_parameters()} == {n for n, _ in base.named_parameters()}
    frozen = ("model.embed_tokens.weight", "lm_head.weight")
    for name, p in tuned.named_parameters():
        assert torch.equal(p, base.get_parameter(name)) == (name in frozen)
    # The adapter itself, before it is merged, from the same training.
    caught = {}
    assemble = instruct.assemble
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            instruct, "assemble", lambda b, j, t: caught.update(tensors=t) or assemble(b, j, t)
        )
        tune(own, checkpoint, task, tmp_path / "again")
    adapted = get_peft_model(base, instruct.adapter(own))
    adapted.load_state_dict(caught["tensors"])
    inputs = torch.arange(1, 31)[None]
    with torch.no_grad():
        expected = adapted.eval()(inputs).logits
        with adapted.disable_adapter():
            untuned = adapted(inputs).logits
        found = tuned(inputs).logits
    assert (expected - untuned).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert numbers(rows)["training", "train", "l2_distance"] > 0


# --- interruptions --------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from overtrain.training.instruct import Folders, Tuning, finetune_instruct
from overtrain.training.processes import Processes
torch.set_num_threads(1)
tuning, several, base, task, folder, identity, origin = map(json.loads, sys.argv[1:])
tuning["betas"] = tuple(tuning["betas"])
folder = Path(folder)
folders = Folders(Path(base), Path(task), folder / "out", folder / "state")
finetune_instruct(Tuning(**tuning), Processes(**several), folders, identity, origin)
"""


def stop(
    tuning: Tuning, several: Processes, base: Path, task: Path, folder: Path, step: int, number: int
) -> tuple[int, str]:
    """Send a signal to the process when it says `step`; status and output."""
    arguments = [asdict(tuning), asdict(several), *map(str, (base, task, folder)), IDENTITY, ORIGIN]
    command = [sys.executable, "-c", SCRIPT, *map(json.dumps, arguments)]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(LIBRARY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(f"step {step}:"):
                process.send_signal(number)
        return process.wait(), "".join(said)


def last_step(state: Path) -> int:
    whole = [path.parent.name for path in state.glob(f"checkpoint-*/{states.COMPLETE}")]
    return max((int(name.split("-")[1]) for name in whole), default=-1)


@pytest.fixture(scope="module")
def long(tuning) -> Tuning:
    return replace(tuning, epochs=10)  # 60 steps


@pytest.fixture(scope="module")
def whole(long, checkpoint, task, tmp_path_factory) -> dict[str, bytes]:
    """What the long tuning leaves if nothing stops it."""
    folder = tmp_path_factory.mktemp("whole")
    tune(long, checkpoint, task, folder)
    return contents(folder / "out")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_bit_identical(
    long, whole, checkpoint, task, tmp_path, capsys
):
    several = Processes(micro_batch=4, state_minutes=0)
    status, _ = stop(long, several, checkpoint, task, tmp_path, 21, signal.SIGKILL)
    assert status == -signal.SIGKILL and not (tmp_path / "out").exists()
    step = last_step(tmp_path / "state")
    assert 20 <= step < 60
    half = tmp_path / f"state/checkpoint-{step + 1}"  # as if killed while it wrote the next
    shutil.copytree(tmp_path / f"state/checkpoint-{step}", half, dirs_exist_ok=True)
    (half / states.COMPLETE).unlink()
    shutil.copytree(tmp_path / "state", tmp_path / "other/state")
    tune(long, checkpoint, task, tmp_path, several)
    assert f"continuing from checkpoint-{step}\n" in capsys.readouterr().out
    assert contents(tmp_path / "out") == whole
    assert left_of(tmp_path / "state") == LEFT
    # And a run of other settings starts anew.
    other = replace(long, learning_rate=1e-3)
    tune(other, checkpoint, task, tmp_path / "other", several)
    said = capsys.readouterr().out
    assert "a state of other settings was found and is discarded" in said
    assert "continuing" not in said


@pytest.mark.slow
def test_a_run_asked_to_end_saves_first_and_goes_on(long, checkpoint, task, tmp_path, capsys):
    long, several = replace(long, lora=LORA), Processes(micro_batch=4, state_minutes=NEVER)
    status, said = stop(long, several, checkpoint, task, tmp_path, 9, signal.SIGTERM)
    assert status == 1
    step = last_step(tmp_path / "state")
    assert 9 <= step < 60
    left = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert left and all(path.stat().st_mode & 0o044 for path in left)  # a colleague may go on
    assert said.endswith(
        f"asked to end at step {step} of 60; the next attempt goes on from there\n"
    )
    assert not (tmp_path / "out").exists()
    tune(long, checkpoint, task, tmp_path, several)
    assert f"continuing from checkpoint-{step}\n" in capsys.readouterr().out
    tune(long, checkpoint, task, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole/out")


# --- weights kept on the way ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("snapshots", "steps", "expected"),
    [
        (None, 12, []),
        ([0.25, 0.5], 12, [3, 6]),
        ([0.5, 0.25], 12, [3, 6]),
        ([0.1, 0.25, 0.5], 125, [12, 31, 62]),
        ([0.01, 0.02, 0.5], 12, [1, 6]),  # none before the first step, and no step twice
        ([0.5, 0.99], 12, [6]),  # the last are kept anyway
        ([0.3, 0.6], 1, []),
    ],
)
def test_weights_are_kept_after_shares_of_the_steps(tuning, snapshots, steps, expected):
    assert replace(tuning, snapshots=snapshots).kept_after(steps) == expected


def steps_of(folder: Path) -> dict[str, bytes]:
    """The weights that a run kept, by their step."""
    found = (folder / "out/steps").glob("*")
    return {path.name: (path / "model.safetensors").read_bytes() for path in found}


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def test_keeping_weights_changes_nothing(run, tuning, checkpoint, task, tmp_path):
    rows, folder = run
    own = replace(tuning, snapshots=[0.25, 0.5])
    assert tune(own, checkpoint, task, tmp_path) == rows
    found = files_of(tmp_path / "out")
    assert json.loads(found.pop("steps.json")) == 12
    assert found == contents(folder / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["steps"]
    assert sorted(steps_of(tmp_path)) == ["3", "6"]
    assert left_of(tmp_path / "state") == [*LEFT[:2], "snapshots", LEFT[2]]


@pytest.mark.parametrize("lora", [None, LORA])
def test_kept_weights_are_those_of_a_run_of_so_many_steps(tuning, checkpoint, task, tmp_path, lora):
    """At a constant rate the first of two epochs is all of a run of one."""
    own = replace(tuning, scheduler="constant", warmup_steps=0, lora=lora, snapshots=[0.25, 0.5])
    tune(own, checkpoint, task, tmp_path)
    tune(replace(own, epochs=1, snapshots=None), checkpoint, task, tmp_path / "short")
    kept, short = tmp_path / "out/steps/6", tmp_path / "short/out"
    names = contents(short).keys() - {"provenance.json"}
    assert contents(kept) == {name: contents(short)[name] for name in names}
    found = steps_of(tmp_path)
    last = (tmp_path / "out/model.safetensors").read_bytes()
    assert len({found["3"], found["6"], last}) == 3
    model = AutoModelForCausalLM.from_pretrained(kept)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert AutoTokenizer.from_pretrained(kept).chat_template == TEMPLATE


def test_a_run_trained_to_its_end_hands_on_what_it_kept(tuning, checkpoint, task, tmp_path, capsys):
    own = replace(tuning, snapshots=[0.25])
    tune(own, checkpoint, task, tmp_path)
    found = steps_of(tmp_path)
    shutil.rmtree(tmp_path / "out")
    tune(own, checkpoint, task, tmp_path)
    assert "trained to the end by an earlier attempt" in capsys.readouterr().out
    assert list(found) == ["3"] and steps_of(tmp_path) == found


def test_a_run_of_other_settings_has_no_weights_kept_before(tuning, checkpoint, task, tmp_path):
    short = replace(tuning, epochs=1)
    tune(replace(short, snapshots=[0.5]), checkpoint, task, tmp_path)
    tune(replace(short, snapshots=[0.7], learning_rate=1e-3), checkpoint, task, tmp_path)
    assert list(steps_of(tmp_path)) == ["4"]
    tune(short, checkpoint, task, tmp_path)
    assert not (tmp_path / "out/steps").exists()


def test_a_run_that_diverged_hands_on_no_weights(tuning, checkpoint, task, tmp_path):
    wild = replace(tuning, learning_rate=1e30, clip=None, snapshots=[0.01])
    tune(wild, checkpoint, task, tmp_path)
    assert sorted(contents(tmp_path / "out")) == ["diverged.json", "provenance.json"]


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0, NEVER])
def test_a_killed_run_still_has_the_weights_that_it_kept(
    long, checkpoint, task, tmp_path, capsys, minutes
):
    """Also where it had no state yet, and comes to the same step again."""
    own = replace(long, snapshots=[0.1, 0.5])
    several = Processes(micro_batch=4, state_minutes=minutes)
    status, _ = stop(own, several, checkpoint, task, tmp_path, 12, signal.SIGKILL)
    assert status == -signal.SIGKILL and last_step(tmp_path / "state") < 30
    first = tmp_path / "state/snapshots/6.safetensors"
    before = first.stat().st_mtime_ns
    tune(own, checkpoint, task, tmp_path, several)
    assert ("continuing from checkpoint-" in capsys.readouterr().out) == (minutes == 0)
    assert first.stat().st_mtime_ns == before  # not written again
    tune(own, checkpoint, task, tmp_path / "whole")
    found = steps_of(tmp_path)
    assert sorted(found) == ["30", "6"] and found == steps_of(tmp_path / "whole")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole/out")


@pytest.mark.slow
def test_two_processes_keep_what_one_does(tuning, checkpoint, task, tmp_path):
    own = replace(tuning, epochs=1, snapshots=[0.5])
    tune(own, checkpoint, task, tmp_path / "one")
    several = Processes(micro_batch=2, state_minutes=NEVER, count=2)
    tune(own, checkpoint, task, tmp_path / "two", several)
    one, two = (load_file(tmp_path / n / "out/steps/3/model.safetensors") for n in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5)


# --- several processes ----------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_a_model_and_train_what_one_does(tuning, checkpoint, task, tmp_path):
    """FSDP2 for real, on the CPU, here of a model with an adapter."""
    tuning = replace(tuning, lora=LORA)
    one = tune(tuning, checkpoint, task, tmp_path / "one")
    shutil.copytree(tmp_path / "one/state", tmp_path / "two/state")  # not a state of two processes
    several = Processes(micro_batch=2, state_minutes=NEVER, count=2)
    two = tune(tuning, checkpoint, task, tmp_path / "two", several)
    expected = load_file(tmp_path / "one/out/model.safetensors")
    found = load_file(tmp_path / "two/out/model.safetensors")
    assert sorted(found) == sorted(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=2e-5)
    for a, b in zip(one, two, strict=True):
        assert b["value"] == pytest.approx(a["value"], rel=1e-4)
    assert left_of(tmp_path / "two/state") == ["examples", *LEFT]


@pytest.mark.slow
def test_two_processes_asked_to_end_save_shards_and_go_on(long, whole, checkpoint, task, tmp_path):
    several = Processes(micro_batch=2, state_minutes=NEVER, count=2)
    status, said = stop(long, several, checkpoint, task, tmp_path, 9, signal.SIGTERM)
    step = last_step(tmp_path / "state")
    assert status == 1 and 9 <= step < 60, said
    assert said.endswith(
        f"asked to end at step {step} of 60; the next attempt goes on from there\n"
    )
    last = states.last_state(tmp_path / "state")
    assert list(last.glob("pytorch_model_fsdp_0/*")) and list(last.glob("optimizer_0/*"))
    tune(long, checkpoint, task, tmp_path, several)
    found = load_file(tmp_path / "out/model.safetensors")
    (tmp_path / "whole.safetensors").write_bytes(whole["model.safetensors"])
    expected = load_file(tmp_path / "whole.safetensors")
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-4)


IN_BFLOAT16 = """
import json
from transformers import TrainerCallback
from overtrain.training import instruct

found = []

class Seen(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **_):
        gradients = [p.grad for p in model.parameters()]
        found.append([type(g).__name__ + " " + str(g.dtype) for g in gradients])
        policy = model._get_fsdp_state()._mp_policy
        found.append([f"{policy.param_dtype} {policy.reduce_dtype} {policy.output_dtype}"])

class Trainer(instruct.Trainer):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.add_callback(Seen())
    def training_step(self, model, *arguments):
        loss = super().training_step(model, *arguments)
        found.append(["pass: " + type(p.grad).__name__ for p in model.parameters()])
        return loss
    def compute_loss(self, *arguments, **keywords):
        loss = super().compute_loss(*arguments, **keywords)
        found.append(["loss " + str(loss.dtype)])
        return loss

own = instruct.SFTConfig
instruct.SFTConfig = lambda **keywords: own(**keywords | {"bf16": True})
instruct.Trainer = Trainer
instruct.main()
said = json.dumps(sorted({x for part in found for x in part}))
print(said + "\\n", end="", flush=True)  # in one piece: two processes print
"""


@pytest.mark.slow
def test_two_processes_in_bfloat16_sum_sharded_gradients_in_float32(
    tuning, checkpoint, task, tmp_path, monkeypatch, capfd
):
    """What GPUs do, forced on the CPU."""
    script = tmp_path / "script.py"
    script.write_text(IN_BFLOAT16)

    def start(command: list, **keywords: object) -> subprocess.Popen:
        assert command[-3:-1] == ["-m", "overtrain.training.instruct"]
        return subprocess.Popen([*command[:-3], str(script), command[-1]], **keywords)

    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(Popen=start))
    several = Processes(micro_batch=1, state_minutes=NEVER, count=2)
    rows = tune(replace(tuning, epochs=1), checkpoint, task, tmp_path, several)
    said = [line for line in capfd.readouterr().out.splitlines() if line.startswith("[")]
    policy = "torch.bfloat16 torch.float32 torch.float32"  # weights, sums, outputs
    expected = ["DTensor torch.float32", "loss torch.float32", "pass: DTensor", policy]
    assert [json.loads(line) for line in said] == [expected] * 2
    one = tune(replace(tuning, epochs=1), checkpoint, task, tmp_path / "one")
    for a, b in zip(one, rows, strict=True):
        assert b["value"] == pytest.approx(a["value"], rel=0.02)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small disk")
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_one_clear_line(tuning, checkpoint, task, tmp_path, count):
    disk = tmp_path / "state"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount")
    several = Processes(micro_batch=2, state_minutes=0, count=count)
    try:
        with pytest.raises(PipelineError) as error:
            folders = Folders(checkpoint, task, tmp_path / "out", disk / "run")
            instruct.finetune_instruct(tuning, several, folders, IDENTITY, ORIGIN)
        line = f"no space left on the disk that holds {disk / 'run'}; free some, run again"
        assert str(error.value) == line
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- what can be wrong ----------------------------------------------------------------------------


def test_a_batch_that_cannot_be_made_is_one_clear_line(tuning, checkpoint, task, tmp_path):
    several = Processes(micro_batch=3, state_minutes=0, count=2)
    line = error_line(lambda: tune(tuning, checkpoint, task, tmp_path, several))
    assert "batch_size 4 is not a multiple of micro_batch 3 x 2 processes" in line
    assert not list(tmp_path.iterdir())


def test_a_length_beyond_the_context_is_one_clear_line(tuning, checkpoint, task, tmp_path):
    line = error_line(lambda: tune(replace(tuning, max_length=33), checkpoint, task, tmp_path))
    assert (
        str(checkpoint) in line and "its context is 32; max_length of recipe instruct is 33" in line
    )


def with_tokenizer(checkpoint: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(checkpoint, folder)
    path = folder / "tokenizer_config.json"
    known = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in known.items() if v is not None}))
    return folder


def test_a_tokenizer_without_padding_pads_with_its_end_of_text(
    run, tuning, checkpoint, task, tmp_path, capsys
):
    base = with_tokenizer(checkpoint, tmp_path / "base", pad_token=None)
    assert tune(tuning, base, task, tmp_path) == run[0]
    assert r"no padding token; '\n', the end of text, pads" in capsys.readouterr().out


def test_a_tokenizer_without_an_end_is_one_clear_line(tuning, checkpoint, task, tmp_path):
    base = with_tokenizer(checkpoint, tmp_path / "base", pad_token=None, eos_token=None)
    line = error_line(lambda: tune(tuning, base, task, tmp_path))
    assert str(base) in line and "no end of text (eos_token)" in line


def test_a_damaged_template_and_one_without_marks_are_one_clear_line(
    tuning, checkpoint, task, tmp_path
):
    wrong = replace(tuning, template="{% for m in messages %}")
    assert error_line(lambda: tune(wrong, checkpoint, task, tmp_path)).startswith("chat.template: ")
    bare = replace(tuning, template="{% for m in messages %}{{ m.content }}{% endfor %}")
    assert "marks none with {% generation %}" in error_line(
        lambda: tune(bare, checkpoint, task, tmp_path)
    )


def test_what_is_cut_and_what_is_left_out_is_counted(checkpoint):
    tokenizer = chat.load_tokenizer(checkpoint, TEMPLATE)
    talk = [
        [{"role": "user", "content": "a" * n}, {"role": "assistant", "content": "bcd"}]
        for n in (2, 5, 7, 9)
    ]
    ids, labels, counts = chat.encode(talk, tokenizer, 10)
    assert counts == {
        "truncated": 3,
        "dropped": 1,
    }  # 8, 11, 13 and 15 tokens, the first 2 + n the user's
    assert [len(own) for own in ids] == [8, 10, 10]
    assert [(own == IGNORE).sum() for own in labels] == [4, 7, 9]
    assert labels[0].tolist() == [IGNORE] * 4 + tokenizer("bcd\n")["input_ids"]
