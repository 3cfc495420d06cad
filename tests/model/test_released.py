"""Released models under noise: transformers' loss at gamma 0, noise of the documented size."""

import math

import pytest
import torch

from overtrain import PipelineError
from overtrain.measuring import perturb
from overtrain.measuring.perturb import Noise, perturb_released, unit_noise
from overtrain.model.initialisation import initial_std
from overtrain.model.losses import held_out_text
from overtrain.model.memory import Room
from overtrain.model.released import load_released

CPU = torch.device("cpu")
ROOM = Room(CPU, 0, 512)
IDENTITY = {"model": "tiny", "evaluation": "c4"}
SHAPE = {
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 48,
    "initializer_range": 0.3,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 0,
}
MITCHELL = {"kind": "mitchell", "cutoff": 3}
NORMAL = {"kind": "normal", "std": 0.3, "cutoff": None}
KINDS = {
    "Olmo": ({"tie_word_embeddings": True}, MITCHELL),
    "Olmo2": ({}, NORMAL | {"cutoff": 3}),
    "Llama": ({}, NORMAL),
}


@pytest.fixture(scope="module")
def text(corpus):
    return held_out_text(corpus, 32, 16 * 32)


@pytest.fixture(scope="module", params=KINDS)
def released(request, tmp_path_factory):
    """(checkpoint directory, its initialisation) of a tiny model of one of the architectures."""
    import transformers

    more, documented = KINDS[request.param]
    config = getattr(transformers, f"{request.param}Config")(**SHAPE | more)
    torch.manual_seed(0)
    model = getattr(transformers, f"{request.param}ForCausalLM")(config)
    folder = tmp_path_factory.mktemp("released") / request.param
    model.save_pretrained(folder)
    return folder, documented


def losses(rows: list[dict]) -> dict[tuple[float, int], float]:
    return {(r["gamma"], r["seed"]): r["value"] for r in rows if r["metric"] == "loss"}


@pytest.fixture
def seen(monkeypatch):
    """Copies of the weights at each evaluation, in order."""
    copies, score = [], perturb.language_modelling

    def watched(model, *rest):
        copies.append({n: p.detach().clone() for n, p in model.model.named_parameters()})
        return score(model, *rest)

    monkeypatch.setattr(perturb, "language_modelling", watched)
    return copies


def test_gamma_zero_is_transformers_own_loss(released, text):
    from transformers import AutoModelForCausalLM

    folder, documented = released
    rows = perturb_released(folder, text, Noise([0.1], [0]), Room(CPU, 0, 64), IDENTITY, documented)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    windows = torch.from_numpy(text.inputs), torch.from_numpy(text.targets)
    with torch.inference_mode():
        whole = torch.cat([windows[0], windows[1][:, -1:]], dim=1)
        own = model(input_ids=whole, labels=whole).loss.item()
    assert losses(rows)[0.0, -1] == pytest.approx(own, abs=1e-5)
    assert abs(losses(rows)[0.1, 0] - own) > 1e-3
    assert [(r["gamma"], r["selection"]) for r in rows[::2]] == [(0.0, "base"), (0.1, "noise")]


def test_every_matrix_gets_noise_of_its_documented_std_on_the_base_and_no_vector_does(
    released, text, seen
):
    folder, documented = released
    members = [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    perturb_released(folder, text, Noise([0.1, 0.2], [0, 1]), ROOM, IDENTITY, documented)
    base, *moved = seen
    assert len(moved) == len(members)
    untouched = 0
    for name, tensor in base.items():
        for (gamma, seed), weights in zip(members, moved, strict=True):
            change = weights[name] - tensor
            if tensor.dim() == 1:
                untouched += 1
                assert not change.any() and tensor.unique().tolist() == [1]
                continue
            std = initial_std(documented, name, tensor.shape)
            assert change.std().item() == pytest.approx(
                gamma * std, rel=5 / (2 * change.numel()) ** 0.5
            )
            exact = gamma * std * unit_noise("tiny", name, seed, tensor.shape)
            torch.testing.assert_close(change, exact, rtol=0, atol=1e-6)
    assert bool(untouched) == (documented["kind"] != "mitchell")  # the first OLMo has no such


def test_the_same_seed_gives_the_same_numbers(released, text):
    folder, documented = released
    run = [
        perturb_released(folder, text, Noise([0.1], seeds), ROOM, IDENTITY, documented)
        for seeds in ([0, 1], [0, 1], [1])
    ]
    assert losses(run[0]) == losses(run[1])
    assert losses(run[2])[0.1, 1] == losses(run[0])[0.1, 1] != losses(run[0])[0.1, 0]


def test_noise_that_overflows_is_a_diverged_row(released, text):
    folder, documented = released
    rows = perturb_released(folder, text, Noise([1e40], [0]), ROOM, IDENTITY, documented)
    assert [row["diverged"] for row in rows] == [False, False, True, True]
    assert all(math.isnan(row["value"]) for row in rows[2:])


# --- faults ---------------------------------------------------------------------------------------


def one_line(folder, text, start: str) -> str:
    with pytest.raises(PipelineError) as caught:
        load_released(folder, text)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"{folder}: {start}"), line
    return line


@pytest.fixture
def llama(tmp_path):
    """A function that saves a Llama whose configuration differs by what is given."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def save(**changes):
        LlamaForCausalLM(LlamaConfig(**SHAPE | changes)).save_pretrained(tmp_path)
        return tmp_path

    return save


def test_a_text_beyond_the_context_or_the_vocabulary_is_one_line(llama, corpus, text):
    long = held_out_text(corpus, 40, 160)
    assert "asks for 40" in one_line(llama(max_position_embeddings=32), long, "its context is 32")
    assert "tokenizer" in one_line(llama(vocab_size=90), text, "its vocabulary is 90")


def test_missing_weights_are_not_drawn_at_random(llama, text):
    from safetensors.torch import load_file, save_file

    folder = llama()
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "layers.1.mlp.up_proj" in one_line(folder, text, "missing keys")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_one_line(llama, text, name):
    folder = llama()
    path = folder / name
    path.write_bytes(path.read_bytes()[:100])
    one_line(folder, text, "not a readable model")
