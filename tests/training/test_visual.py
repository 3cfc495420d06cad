"""Visual tuning: both stages' steps are a plain loop's, move what they should, and go on."""

import json
import os
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
from safetensors.torch import load_file
from sights import OF_IMAGE, PARTS, PLAIN, write_encoder, write_talk, write_text_model
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from overtrain import PipelineError
from overtrain.data.images import Images
from overtrain.data.tasks import read_split
from overtrain.model import chat, vision
from overtrain.model.architecture import IGNORE
from overtrain.model.released import load_model
from overtrain.training import processes, states, visual, visual_examples
from overtrain.training.processes import Processes
from overtrain.training.visual import Decoded, Folders, Tuning

LIBRARY = Path(__file__).parents[2] / "scripts"
CHAT = (  # of the text model that is left: contents are text
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ m.content + ': ' }}{% endif %}"
    "{% endfor %}"
)
NEVER = 1e9  # minutes between states
ONE = Processes(micro_batch=4, state_minutes=NEVER)
IDENTITY = {"study": "vision", "model": "tiny", "checkpoint": "1T", "tokens": 10**12,
            "pretraining_seed": 0, "task": "talk", "recipe": "llava"}  # fmt: skip
ORIGIN = {"data": {"checkpoint": "hash", "train": "hash"}}
TEXT_MODEL = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "provenance.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A base, an encoder, and two tasks: 26 captions and 40 questions to train on."""
    folder = tmp_path_factory.mktemp("vision")
    write_text_model(folder / "base")
    write_encoder(folder / "encoder")
    write_talk(folder / "captions", True, 26, 6)
    write_talk(folder / "questions", False, 40, 9)
    return folder


@pytest.fixture(scope="module")
def aligning() -> Tuning:
    """6 steps of 4 captions."""
    return Tuning(
        model="tiny",
        task="captions",
        recipe="llava",
        learning_rate=1e-2,
        seed=0,
        batch_size=4,
        epochs=1,
        scheduler="cosine",
        warmup_steps=2,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        clip=1.0,
        max_length=64,
        precision="bf16",
        template=PLAIN,
        encoder="tiny",
        layer=-2,
        text_template=None,
    )


@pytest.fixture(scope="module")
def tuning(aligning) -> Tuning:
    """9 steps of 4 questions, all of a batch with an image or none."""
    more = {"task": "questions", "learning_rate": 3e-3}
    return replace(aligning, template=PARTS, text_template=CHAT, **more)


@pytest.fixture(scope="module")
def projector(place, aligning, tmp_path_factory) -> tuple[list[dict], Path]:
    """Measurements of the alignment, and its folder."""
    folder = tmp_path_factory.mktemp("projector")
    return tune(aligning, place, folder), folder / "out"


@pytest.fixture(scope="module")
def run(place, tuning, projector, tmp_path_factory) -> tuple[list[dict], Path]:
    """Measurements of the run, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    return tune(tuning, place, folder, projector[1]), folder / "out"


def folders(own: Tuning, place: Path, folder: Path, projector: Path | None = None) -> Folders:
    task = place / own.task
    made_of = (place / "base", place / "encoder", projector, task, task / "images")
    return Folders(*made_of, folder / "out", folder / "state")


def tune(
    own: Tuning,
    place: Path,
    folder: Path,
    projector: Path | None = None,
    several: Processes = ONE,
) -> list[dict]:
    torch.set_num_threads(1)
    stage = visual.align_projector if own.aligns else visual.finetune_vision
    return stage(own, several, folders(own, place, folder, projector), IDENTITY, ORIGIN)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def numbers(rows: list[dict]) -> dict[tuple[str, str], float]:
    return {(r["evaluation"], r["metric"]): r["value"] for r in rows}


def error_line(action: object) -> str:
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def change(before: dict, after: dict) -> float:
    return torch.cat([(after[n] - before[n]).flatten() for n in before]).double().norm().item()


# --- by hand --------------------------------------------------------------------------------------


class ByHand:
    """LLaVA's parts one by one, and AdamW's first step as its paper has it."""

    def __init__(self, place: Path, projector: dict[str, torch.Tensor]):
        self.text = AutoModelForCausalLM.from_pretrained(place / "base").eval()
        self.tower = CLIPVisionModel.from_pretrained(place / "encoder").eval()
        self.projector = {name: t.clone().requires_grad_() for name, t in projector.items()}
        self.tokenizer = AutoTokenizer.from_pretrained(place / "base")
        self.images = vision.load_processor(place / "base", place / "encoder", PARTS)

    def features(self, image) -> torch.Tensor:
        pixels = self.images.image_processor(image, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            seen = self.tower(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
        p = self.projector
        hidden = F.gelu(F.linear(seen, p["linear_1.weight"], p["linear_1.bias"]))
        return F.linear(hidden, p["linear_2.weight"], p["linear_2.bias"])

    def response_loss(self, rows: list[dict], images: Images, plain: bool):
        """Summed loss and count of the responses' tokens, one conversation at a time."""
        total, count, embed = 0.0, 0, self.text.get_input_embeddings()
        for row in rows:
            asked, answer = (m["content"] for m in row["messages"])
            asked = "" if plain else asked + ": "
            ids = torch.tensor(self.tokenizer(asked + answer + "\n")["input_ids"])
            embedded, start = embed(ids), len(asked)  # a token is a character
            if row["image"]:
                embedded = torch.cat([self.features(images[row["image"]]), embedded])
                start += OF_IMAGE
            logits = self.text(inputs_embeds=embedded[None]).logits[0]
            wanted = ids[len(asked) :]
            total = total + F.cross_entropy(logits[start - 1 : -1], wanted, reduction="sum")
            count += len(wanted)
        return total, count


def adamw(parameter: torch.Tensor, rate: float) -> torch.Tensor:
    """After one step without decay: both moments' corrections undo their first weights."""
    g = parameter.grad
    first, second = (1 - 0.9) * g, (1 - 0.999) * g**2
    return parameter.detach() - rate * (first / (1 - 0.9)) / ((second / (1 - 0.999)).sqrt() + 1e-8)


def close(found: torch.Tensor, expected: torch.Tensor, rate: float) -> None:
    """Equal but where a gradient is so near 0 that rounding is most of it."""
    difference = (found - expected).abs()
    assert difference.max() <= 2.1 * rate
    assert (difference > 2e-5).float().mean() < 0.01


def test_a_step_of_alignment_is_adamw_on_the_captions_by_hand(aligning, place, tmp_path):
    own = replace(aligning, batch_size=26, warmup_steps=0, clip=None)
    rows = tune(own, place, tmp_path, several=replace(ONE, micro_batch=2))
    drawn = vision.load_llava(
        place / "base", place / "encoder", -2, None, own.seed_for("projector")
    )
    hand = ByHand(place, vision.projector_weights(drawn.state_dict()))
    images = Images(place / "captions/images")
    train = read_split(place / "captions", "train", "image_chat")
    total, count = hand.response_loss(train, images, plain=True)
    (total / count).backward()
    found = load_file(tmp_path / "out/projector.safetensors")
    assert sorted(found) == sorted(hand.projector)
    for name, parameter in hand.projector.items():
        close(found[name], adamw(parameter, 1e-2), 1e-2)
    said = numbers(rows)
    assert said["training", "loss"] == pytest.approx(total.item() / count, rel=1e-5)
    assert said["training", "projector_l2_distance"] == pytest.approx(
        change({n: t.detach() for n, t in hand.projector.items()}, found), rel=1e-6
    )


@pytest.mark.parametrize("with_image", [True, False])
def test_a_step_of_a_run_is_adamw_on_all_but_the_encoder_by_hand(
    tuning, place, projector, tmp_path, with_image
):
    """All with an image, or none of them: then the projector does not move."""
    rows = read_split(place / "questions", "train", "image_chat")
    rows = [row for row in rows if (row["image"] is not None) == with_image][:12]
    other = shutil.copytree(place, tmp_path / "place")
    write_rows(other / "questions/train.parquet", rows)
    own = replace(tuning, batch_size=12, warmup_steps=0, clip=None)
    tune(own, other, tmp_path, projector[1], replace(ONE, micro_batch=3))
    hand = ByHand(place, load_file(projector[1] / "projector.safetensors"))
    total, count = hand.response_loss(rows, Images(place / "questions/images"), plain=False)
    (total / count).backward()
    found = load_file(tmp_path / "out/model.safetensors")
    for name, parameter in hand.text.named_parameters():
        close(found[name], adamw(parameter, 3e-3), 3e-3)
    found = load_file(tmp_path / "out/projector.safetensors")
    for name, parameter in hand.projector.items():
        if with_image:
            close(found[name], adamw(parameter, 3e-3), 3e-3)
        else:
            assert torch.equal(found[name], parameter)


def write_rows(path: Path, rows: list[dict]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from overtrain.data.tasks import COLUMNS

    pq.write_table(pa.Table.from_pylist(rows, pa.schema(COLUMNS["image_chat"])), path)


def test_held_out_loss_is_that_of_the_responses_by_hand(run, place):
    rows, out = run
    hand = ByHand(place, load_file(out / "projector.safetensors"))
    hand.text = AutoModelForCausalLM.from_pretrained(out).eval()
    test = read_split(place / "questions", "test", "image_chat")
    with torch.no_grad():
        total, count = hand.response_loss(test, Images(place / "questions/images"), plain=False)
    said = numbers(rows)
    assert said["id", "loss"] == pytest.approx(total.item() / count, rel=1e-5)
    assert said["id", "perplexity"] == pytest.approx(np.exp(total.item() / count), rel=1e-5)
    assert {r["n"] for r in rows if r["evaluation"] == "id"} == {9}


# --- what is moved, and what is left --------------------------------------------------------------


@pytest.mark.parametrize("stage", ["aligning", "tuning"])
def test_alignment_moves_the_projector_alone_and_no_stage_the_encoder(
    stage, place, projector, tmp_path, request, monkeypatch
):
    own, seen = request.getfixturevalue(stage), {}

    def caught(one, *arguments):
        seen["model"], seen["before"] = (
            one.model,
            {name: t.clone() for name, t in one.model.state_dict().items()},
        )
        return run_(one, *arguments)

    run_ = visual.trainer.run
    monkeypatch.setattr(visual.trainer, "run", caught)
    tune(own, place, tmp_path, None if own.aligns else projector[1])
    after = seen["model"].state_dict()
    moved = {name for name, t in after.items() if not torch.equal(t, seen["before"][name])}
    expected = {name for name in after if name.startswith(own.trained)}
    assert moved == expected and len(moved) == (4 if own.aligns else len(after) - 55)
    tower = seen["model"].model.vision_tower
    assert not tower.training
    kept = CLIPVisionModel.from_pretrained(place / "encoder").state_dict()
    assert all(torch.equal(t, kept[name]) for name, t in tower.state_dict().items())
    if not own.aligns:  # the image token's own row is never read
        row = after["model.language_model.embed_tokens.weight"][96:]
        assert row.shape == (1, 24) and not row.any()


def test_what_an_alignment_leaves(projector):
    rows, out = projector
    assert sorted(contents(out)) == ["manifest.json", "projector.safetensors", "provenance.json"]
    assert json.loads((out / "provenance.json").read_text()) == ORIGIN
    own = {"learning_rate": 1e-2, "seed": 0, "selection": "last", "diverged": False}
    assert all(own.items() <= row.items() for row in rows)
    assert set(numbers(rows)) == {
        ("training", "loss"), ("training", "projector_l2_distance"),
        ("id", "loss"), ("id", "perplexity"),
    }  # fmt: skip


@torch.no_grad()
def test_a_run_leaves_an_ordinary_checkpoint_of_its_language_model(run, place, projector):
    rows, out = run
    assert sorted(contents(out)) == sorted([*TEXT_MODEL, "projector.safetensors"])
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == CHAT
    known = AutoTokenizer.from_pretrained(place / "base")
    assert len(tokenizer) == len(known) == 96
    base, text = load_model(place / "base"), load_model(out)
    assert {p.dtype for p in text.parameters()} == {torch.float32}
    assert text.config.to_dict() | {"_name_or_path": ""} == (
        base.config.to_dict() | {"_name_or_path": ""}
    )
    shapes = {name: p.shape for name, p in base.named_parameters()}
    assert {name: p.shape for name, p in text.named_parameters()} == shapes
    # Bit-equal: on text, the language model is what LLaVA of the folder says.
    llava = vision.load_llava(out, place / "encoder", -2, out)
    tokens = torch.arange(1, 41)[None]
    assert torch.equal(llava(input_ids=tokens).logits, text.eval()(tokens).logits)
    assert not torch.equal(base.eval()(tokens).logits, text(tokens).logits)
    found = numbers(rows)
    before, after = (
        {name: p.detach() for name, p in model.named_parameters()} for model in (base, text)
    )
    assert found["training", "l2_distance"] == pytest.approx(change(before, after))
    moved = change(*(load_file(folder / vision.PROJECTOR) for folder in (projector[1], out)))
    assert found["training", "projector_l2_distance"] == pytest.approx(moved)


@pytest.mark.parametrize(("kind", "tied", "rows"), [("olmo2", False, 104), ("llama", True, 100)])
def test_runs_of_other_models_leave_the_rows_they_had(
    tuning, aligning, place, tmp_path, kind, tied, rows
):
    other = shutil.copytree(place, tmp_path / "place")
    shutil.rmtree(other / "base")
    write_text_model(other / "base", kind, tied, rows)
    tune(aligning, other, tmp_path / "projector")
    tune(tuning, other, tmp_path, tmp_path / "projector/out")
    text, base = load_model(tmp_path / "out"), load_model(other / "base")
    for name, parameter in text.named_parameters():
        assert parameter.shape == base.get_parameter(name).shape
    assert (text.lm_head.weight is text.get_input_embeddings().weight) == tied


def test_equal_bytes_for_equal_seeds_and_others_for_others(run, tuning, place, projector, tmp_path):
    rows, out = run
    assert tune(tuning, place, tmp_path / "again", projector[1]) == rows
    assert contents(tmp_path / "again/out") == contents(out)
    tune(replace(tuning, seed=1), place, tmp_path / "other", projector[1])
    other = load_file(tmp_path / "other/out/model.safetensors")
    own = load_file(out / "model.safetensors")
    assert not any(torch.equal(other[name], own[name]) for name in own)


def test_a_run_that_diverges_leaves_a_marker_and_rows_of_nan(tuning, place, projector, tmp_path):
    wild = replace(tuning, learning_rate=1e30, clip=None)
    rows = tune(wild, place, tmp_path, projector[1])
    assert sorted(contents(tmp_path / "out")) == ["diverged.json", "provenance.json"]
    assert len(rows) == 5 and all(r["diverged"] and np.isnan(r["value"]) for r in rows)


def test_a_projector_that_diverges_is_one_clear_line(aligning, place, tmp_path):
    wild = replace(aligning, learning_rate=1e30, clip=None)
    for _ in range(2):  # the second time without a step
        line = error_line(lambda: tune(wild, place, tmp_path))
        assert "the projector diverged at step" in line
        assert line.endswith("lower visual_recipes.llava.alignment.learning_rate")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


# --- examples -------------------------------------------------------------------------------------


def test_targets_are_the_responses_tokens_and_image_tokens_have_none(tuning, place):
    own = folders(tuning, place, place)
    processor = visual_examples.processor_of(tuning, own.base, own.encoder)
    rows = visual_examples.read_examples(own.task, "train", processor, tuning)
    assert len(rows.lengths) == 40 and sum(rows.with_image) == 26
    collate = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)
    tokenizer = chat.load_tokenizer(place / "base", CHAT)
    for kind in (True, False):
        chosen = [i for i in range(40) if rows.with_image[i] == kind]
        data = rows.data(chosen).with_transform(Decoded(Images(own.images)))
        batch = collate(list(data))
        assert batch["attention_mask"].sum(1).tolist() == [rows.lengths[i] for i in chosen]
        assert ("pixel_values" in batch) == kind
        ids, labels, _ = chat.encode([rows.messages[i] for i in chosen], tokenizer, 64)
        for number, (text, targets) in enumerate(zip(ids, labels, strict=True)):
            images = OF_IMAGE * kind
            length = images + len(text)
            found, wanted = batch["input_ids"][number], batch["labels"][number]
            assert (found[:images] == processor.image_token_id).all()
            assert found[images:length].tolist() == text.tolist()
            assert (wanted[:images] == IGNORE).all() and (wanted[length:] == IGNORE).all()
            assert wanted[images:length].tolist() == targets.tolist()


def test_batches_are_of_one_kind_in_any_order_sorted_inside(tuning):
    lengths = [(7 * i) % 23 for i in range(50)]
    kinds = [i % 3 > 0 for i in range(50)]  # 33 and 17
    order = visual.tuning.batches(lengths, tuning, kinds)
    assert order.shape == (12, 4) and len(set(order.ravel())) == 48
    of_kind = np.array(kinds)[order]
    assert (of_kind == of_kind[:, :1]).all()
    assert (np.diff(of_kind[:, 0].astype(int)) != 0).sum() > 2  # mixed, not one kind first
    assert (np.diff(np.array(lengths)[order], axis=1) <= 0).all()
    again = visual.tuning.batches(lengths, replace(tuning, learning_rate=1.0), kinds)
    assert (again == order).all()
    assert (visual.tuning.batches(lengths, replace(tuning, seed=1), kinds) != order).any()
    few = visual.tuning.batches(lengths[:6], tuning, [True] * 4 + [False] * 2)
    assert sorted(few.ravel()) == [0, 1, 2, 3]


@pytest.mark.parametrize("epochs", [1, 2])
def test_what_is_trained_on_comes_in_batches_of_one_kind(
    tuning, place, projector, tmp_path, monkeypatch, capsys, epochs
):
    """40 questions, 26 with an image: 6 and 3 whole batches."""
    seen = []
    plain = visual.train_own
    monkeypatch.setattr(
        visual, "train_own", lambda plan, several, data, state: (
            seen.extend(data["image"]), plain(plan, several, data, state)
        )[1],
    )  # fmt: skip
    tune(replace(tuning, epochs=epochs), place, tmp_path, projector[1])
    kinds = np.array([name is not None for name in seen]).reshape(-1, 4)
    assert len(kinds) == 9 * epochs and kinds.all(1).sum() == 6 * epochs
    assert (~kinds).all(1).sum() == 3 * epochs
    said = "26 with an image; of each epoch 4 are left out, less than a batch of one kind"
    assert said in capsys.readouterr().out


def test_what_is_left_out_is_counted_and_nothing_is_cut(tuning, aligning, place, tmp_path, capsys):
    def row(asked: str, answer: str, image: str | None) -> dict:
        pair = zip(("user", "assistant"), (asked, answer), strict=True)
        return {"messages": [{"role": r, "content": c} for r, c in pair], "image": image}

    rows = [
        row("x" * 20, "y" * 25, "1.png"),  # 16 + 22 + 26 tokens: 64
        row("x" * 20, "y" * 26, "1.png"),
        row("x" * 20, "y" * 41, None),
        row("x" * 20, "y" * 42, None),
        row("see <image>", "no", None),
        row("see <image>", "twice", "1.png"),
    ]
    write_rows(tmp_path / "train.parquet", rows)
    processor = visual_examples.processor_of(tuning, place / "base", place / "encoder")
    found = visual_examples.read_examples(tmp_path, "train", processor, tuning)
    assert found.lengths == [64, 64] and found.images == ["1.png", None]
    said = capsys.readouterr().out
    assert "train: 6 conversations; left out: {" in said
    assert "'longer than 64 tokens': 2" in said
    assert "'image marks that are not one for each image': 2" in said
    visual_examples.read_examples(tmp_path, "train", processor, replace(tuning, text_template=None))
    assert "'no image to align': 2" in capsys.readouterr().out


# --- what can be wrong ----------------------------------------------------------------------------


def test_settings_that_cannot_be_are_one_clear_line(tuning, aligning, place, projector, tmp_path):
    three = Processes(micro_batch=3, state_minutes=NEVER)
    line = error_line(lambda: tune(aligning, place, tmp_path, several=three))
    assert "not a multiple of micro_batch 3 x 1 processes (resources.align_projector)" in line
    line = error_line(lambda: tune(tuning, place, tmp_path, projector[1], three))
    assert line.endswith("(resources.finetune_vision)")
    long = replace(tuning, max_length=65)
    line = error_line(lambda: tune(long, place, tmp_path, projector[1]))
    assert "its context is 64; max_length of recipe llava is 65" in line
    short = replace(tuning, max_length=16)
    line = error_line(lambda: tune(short, place, tmp_path, projector[1]))
    assert line == (f"{place / 'encoder'}: an image is 16 tokens; max_length of recipe llava is 16")
    assert not (tmp_path / "out").exists()


def test_a_template_that_does_not_fit_is_one_clear_line(tuning, aligning, place, tmp_path):
    broken = replace(aligning, template="{% for m in messages %}")
    line = error_line(lambda: tune(broken, place, tmp_path))
    assert line.startswith("visual_recipes.llava.alignment.template: ")
    adding = replace(aligning, template=PLAIN.replace("p.text", "p.text + 1"))
    line = error_line(lambda: tune(adding, place, tmp_path))
    assert line.startswith("visual_recipes.llava.alignment.template: ")
    for count in (0, 2):
        other = replace(aligning, template=PLAIN.replace("<image>", count * "<image>"))
        line = error_line(lambda other=other: tune(other, place, tmp_path))
        assert line == (
            f"visual_recipes.llava.alignment.template: it writes <image> {count} times for an "
            "image; it must once"
        )
    silent = PLAIN.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    line = error_line(lambda: tune(replace(aligning, template=silent), place, tmp_path))
    assert line == (
        "visual_recipes.llava.alignment.template: it marks no response with {% generation %}"
    )
    few = replace(aligning, batch_size=32, template=PLAIN)
    line = error_line(lambda: tune(few, place, tmp_path))
    assert line == "26 examples to train on are less than one batch, 32"


def test_a_run_does_not_go_on_with_text_alone_where_its_template_has_no_mark(
    tuning, place, projector, tmp_path
):
    """Every conversation with an image would be left out, and there are others."""
    blind = replace(tuning, template=PARTS.replace("<image>", ""), batch_size=4)
    line = error_line(lambda: tune(blind, place, tmp_path, projector[1]))
    assert line.startswith("visual_recipes.llava.template: it writes <image> 0 times")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_one_clear_line(
    tuning, place, projector, tmp_path, monkeypatch, workers
):
    """Also where other processes decode, as on GPUs."""
    other = shutil.copytree(place, tmp_path / "place")
    images = other / "questions/images/images.zip"
    whole = images.read_bytes()
    images.write_bytes(whole.replace(b"IDAT", b"IDAX"))
    plain = visual.settings

    def with_workers(*arguments):
        found = plain(*arguments)
        found.dataloader_num_workers = workers
        return found

    monkeypatch.setattr(visual, "settings", with_workers)
    line = error_line(lambda: tune(tuning, other, tmp_path, projector[1]))
    assert line.startswith(f"{images}: ") and ".png" in line
    assert not (tmp_path / "out").exists()


def test_processes_that_decode_share_the_list_of_images(
    tuning, place, projector, tmp_path, monkeypatch
):
    """It is read in the process that trains, before the others are forked."""
    plain, opened = visual.settings, visual.Images.archive.fget
    own = os.getpid()

    def with_workers(*arguments):
        found = plain(*arguments)
        found.dataloader_num_workers = 2
        return found

    def archive(images):
        if os.getpid() != own and images._opened is None:
            raise PipelineError("a forked process reads the list again")
        return opened(images)

    monkeypatch.setattr(visual, "settings", with_workers)
    monkeypatch.setattr(visual.Images, "archive", property(archive))
    tune(tuning, place, tmp_path, projector[1])


# --- interruptions and several processes ----------------------------------------------------------

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from overtrain.training.processes import Processes
from overtrain.training.visual import Folders, Tuning, align_projector, finetune_vision
torch.set_num_threads(1)
tuning, several, folders, identity, origin = map(json.loads, sys.argv[1:])
own = Tuning.of_settings(tuning)
folders = Folders(**{k: v and Path(v) for k, v in folders.items()})
stage = align_projector if own.aligns else finetune_vision
stage(own, Processes(**several), folders, identity, origin)
"""


def stop(
    own: Tuning, several: Processes, made_of: Folders, step: int, number: int
) -> tuple[int, str]:
    """Send a signal to the process when it says `step`; status and output."""
    where = {key: value and str(value) for key, value in asdict(made_of).items()}
    arguments = [asdict(own), asdict(several), where, IDENTITY, ORIGIN]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(json.dumps, arguments)],
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["aligning", "tuning"])
def test_a_stopped_training_goes_on_and_ends_bit_identical(
    stage, number, place, projector, tmp_path, capsys, request
):
    own = replace(request.getfixturevalue(stage), epochs=6)
    start = None if own.aligns else projector[1]
    tune(own, place, tmp_path / "whole", start)
    killed = number == signal.SIGKILL
    several = replace(ONE, state_minutes=0 if killed else NEVER)
    status, said = stop(own, several, folders(own, place, tmp_path, start), 10, number)
    assert status == (-number if killed else 1), said
    (last,) = (tmp_path / "state").glob(f"checkpoint-*/{states.COMPLETE}")
    step = last.parent.name
    weights = load_file(last.parent / "model.safetensors")
    assert weights and all(name.startswith(own.trained) for name in weights)
    assert killed or said.splitlines()[-1].endswith("the next attempt goes on from there")
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    tune(own, place, tmp_path, start, several)
    assert f"continuing from {step}\n" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(tmp_path / "whole/out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "tied"), [("aligning", False), ("tuning", False), ("tuning", True)]
)
def test_two_processes_share_a_model_and_train_what_one_does(
    stage, tied, place, projector, tmp_path, request
):
    """FSDP2 for real, on the CPU, the frozen encoder with it; some batches are of text alone."""
    own = request.getfixturevalue(stage)
    start = None if own.aligns else projector[1]
    if tied:
        place = shutil.copytree(place, tmp_path / "place")
        shutil.rmtree(place / "base")
        write_text_model(place / "base", "llama", True, 100)
    one = tune(own, place, tmp_path / "one", start)
    several = Processes(micro_batch=2, state_minutes=NEVER, count=2)
    two = tune(own, place, tmp_path / "two", start, several)
    for file in (tmp_path / "one/out").glob("*.safetensors"):
        expected = load_file(file)
        found = load_file(tmp_path / "two/out" / file.name)
        assert sorted(found) == sorted(expected)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-5)
    for a, b in zip(one, two, strict=True):
        assert b["value"] == pytest.approx(a["value"], rel=1e-4)


AS_ON_GPUS = """
import json, sys
from transformers import TrainerCallback
from overtrain.training import visual

found = set()

class Seen(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **_):
        moved = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
        found.update(f"{type(p.grad).__name__} {p.grad.dtype}" for p in moved)
        frozen = [p for p in model.parameters() if not p.requires_grad]
        found.add(f"frozen {any(p.grad is not None for p in frozen)}")

class Trainer(visual.Trainer):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.add_callback(Seen())

own = visual.SFTConfig
def config(**keywords):
    sharded = {"fsdp_config": keywords["fsdp_config"] | {"activation_checkpointing": True}}
    return own(**keywords | sharded | {"bf16": True, "dataloader_num_workers": 1})
visual.SFTConfig, visual.Trainer = config, Trainer
visual.main()
print(json.dumps(sorted(found)) + "\\n", end="", flush=True)  # in one piece: two processes print
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["aligning", "tuning"])
def test_two_processes_do_what_gpus_do_forced_on_the_cpu(
    stage, place, projector, tmp_path, request, monkeypatch, capfd
):
    """bfloat16, passes computed again, images decoded by other processes."""
    own = request.getfixturevalue(stage)
    start = None if own.aligns else projector[1]
    script = tmp_path / "script.py"
    script.write_text(AS_ON_GPUS)

    def begin(command: list, **keywords: object) -> subprocess.Popen:
        assert command[-3:-1] == ["-m", "overtrain.training.visual"]
        return subprocess.Popen([*command[:-3], str(script), command[-1]], **keywords)

    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(Popen=begin))
    several = Processes(micro_batch=1, state_minutes=NEVER, count=2)
    rows = tune(own, place, tmp_path, start, several)
    said = [line for line in capfd.readouterr().out.splitlines() if line.startswith("[")]
    assert [json.loads(line) for line in said] == [["DTensor torch.float32", "frozen False"]] * 2
    one = tune(own, place, tmp_path / "one", start)
    for a, b in zip(one, rows, strict=True):
        assert b["value"] == pytest.approx(a["value"], rel=0.05)


@pytest.mark.parametrize("stage", ["aligning", "tuning"])
def test_passes_computed_again_change_nothing(
    stage, place, projector, tmp_path, request, monkeypatch
):
    """As on one GPU, where activations are not kept."""
    own = request.getfixturevalue(stage)
    start = None if own.aligns else projector[1]
    plain = visual.SFTConfig
    monkeypatch.setattr(
        visual, "SFTConfig", lambda **more: plain(**more | {"gradient_checkpointing": True})
    )
    tune(own, place, tmp_path, start)
    monkeypatch.undo()
    tune(own, place, tmp_path / "plain", start)
    for file in (tmp_path / "plain/out").glob("*.safetensors"):
        expected = load_file(file)
        for name, tensor in load_file(tmp_path / "out" / file.name).items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_two_processes_asked_to_end_save_shards_and_go_on(tuning, place, projector, tmp_path):
    own = replace(tuning, epochs=4)
    several = Processes(micro_batch=2, state_minutes=NEVER, count=2)
    where = folders(own, place, tmp_path, projector[1])
    status, said = stop(own, several, where, 9, signal.SIGTERM)
    assert status == 1, said
    assert list(where.state.glob("checkpoint-*/pytorch_model_fsdp_0/*"))
    tune(own, place, tmp_path, projector[1], several)
    tune(own, place, tmp_path / "whole", projector[1])
    expected = load_file(tmp_path / "whole/out/model.safetensors")
    for name, tensor in load_file(tmp_path / "out/model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-5)
