"""The model: equal to transformers', stacked equal to single, chunked to whole; its checkpoints."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, OlmoConfig, OlmoForCausalLM

from overtrain import PipelineError
from overtrain.model.architecture import IGNORE, Architecture
from overtrain.model.dropout import Dropout, Rates
from overtrain.model.olmo import (
    MUP,
    WEIGHTS,
    Olmo,
    load_checkpoint,
    read_architecture,
    save_checkpoint,
)

SHAPES = [  # layers, heads, width, MLP
    (1, 1, 16, 24),
    (2, 4, 32, 96),
    (3, 2, 48, 40),
]


def architecture(layers: int, heads: int, width: int, mlp: int) -> Architecture:
    return Architecture(layers, heads, width, mlp, context=24, vocabulary=80, base_width=16)


def some_tokens(a: Architecture, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(a.vocabulary, shape, generator=generator)


def some_stack(a: Architecture, runs: int) -> tuple[Olmo, list[Olmo]]:
    """A stack, and its members as models of their own."""
    members = [Olmo(a).initialise(seed) for seed in range(runs)]
    weights = [dict(m.named_parameters()) for m in members]
    stacked = {name: torch.stack([w[name] for w in weights]) for name in weights[0]}
    return Olmo(a, runs).load(stacked), members


# --- transformers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_our_checkpoint_gives_the_same_logits_in_transformers(shape, tmp_path):
    a = architecture(*shape)
    ours = Olmo(a).initialise(seed=1)
    save_checkpoint(ours, tmp_path, end_of_text=0)
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs) is OlmoForCausalLM and theirs.dtype == torch.float32
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokens = some_tokens(a, 3, a.context)
    with torch.no_grad():
        expected, found = theirs(tokens).logits, ours(tokens)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_a_checkpoint_of_transformers_gives_the_same_logits_here(shape, tmp_path):
    a = architecture(*shape)
    torch.manual_seed(0)
    config = OlmoConfig(
        vocab_size=a.vocabulary,
        hidden_size=a.hidden_size,
        intermediate_size=a.mlp_size,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        max_position_embeddings=a.context,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    theirs = OlmoForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_checkpoint(tmp_path)
    assert ours.architecture.base_width is None  # no muP table came with it
    tokens = some_tokens(a, 3, a.context)
    with torch.no_grad():
        expected, found = theirs(tokens).logits, ours(tokens)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-4


def test_the_checkpoints_tokenizer_and_end_of_text_are_read_by_transformers(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer("cat\n")["input_ids"] == [68, 66, 85, 0]
    assert tokenizer.decode([68, 66, 85]) == "cat"
    config = AutoModelForCausalLM.from_pretrained(checkpoint).config
    assert tokenizer.eos_token_id == config.eos_token_id == 0


# --- stacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stack_computes_what_its_members_compute(shape):
    a = architecture(*shape)
    stack, members = some_stack(a, 3)
    tokens = some_tokens(a, 3, 2, 20)
    inputs, targets = tokens[..., :-1], tokens[..., 1:]
    torch.testing.assert_close(
        stack(inputs), torch.stack([m(t) for m, t in zip(members, inputs, strict=True)])
    )
    stack.losses(inputs, targets).sum().backward()
    for r, member in enumerate(members):
        member.losses(inputs[r], targets[r]).sum().backward()
        for name, parameter in member.named_parameters():
            found = dict(stack.named_parameters())[name].grad[r]
            torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-5)


def test_a_member_of_nan_leaves_the_others_as_they_were_bit_for_bit():
    a = architecture(2, 4, 32, 96)
    tokens = some_tokens(a, 3, 2, 20)
    found = []
    for broken in (False, True):
        stack, _ = some_stack(a, 3)
        if broken:
            with torch.no_grad():
                for parameter in stack.parameters():
                    parameter[1] = float("nan")
        losses = stack.losses(tokens[..., :-1], tokens[..., 1:])
        losses.sum().backward()
        found.append([losses, *(p.grad for p in stack.parameters())])
    for healthy, beside_nan in zip(*found, strict=True):
        assert beside_nan[1].isnan().any()
        assert torch.equal(healthy[0], beside_nan[0])
        assert torch.equal(healthy[2], beside_nan[2])


def test_weights_without_a_leading_dimension_go_to_every_member(checkpoint):
    single, stack = load_checkpoint(checkpoint), load_checkpoint(checkpoint, runs=2)
    for name, parameter in single.named_parameters():
        both = dict(stack.named_parameters())[name]
        assert torch.equal(both[0], parameter) and torch.equal(both[1], parameter)


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [None, 2])
@pytest.mark.parametrize("chunk", [1, 7, 38, 1000])
def test_chunks_of_logits_change_neither_losses_nor_gradients(runs, chunk):
    a = architecture(2, 4, 32, 96)
    tokens = some_tokens(a, *([runs] if runs else []), 2, 20)
    inputs, targets = tokens[..., :-1], tokens[..., 1:].clone()
    targets[..., 5:9] = IGNORE
    results = []
    for size in (None, chunk):
        model = some_stack(a, runs)[0] if runs else Olmo(a).initialise(seed=0)
        losses = model.losses(inputs, targets, chunk=size)
        losses.sum().backward()
        results.append([losses, *(p.grad for p in model.parameters())])
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5)
    assert (results[0][0][..., 5:9] == 0).all() and (results[0][0][..., :5] > 0).all()


def test_losses_are_the_cross_entropy_of_the_logits_and_of_no_later_token():
    a = architecture(2, 4, 32, 96)
    model = Olmo(a).initialise(seed=0)
    tokens = some_tokens(a, 2, 20)
    losses = model.losses(tokens[:, :-1], tokens[:, 1:])
    chosen = model(tokens[:, :-1]).log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(losses, -chosen)
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % a.vocabulary
    others = model.losses(changed[:, :-1], changed[:, 1:])
    torch.testing.assert_close(others[:, :9], losses[:, :9], rtol=0, atol=1e-6)
    assert (others[:, 9:] != losses[:, 9:]).all()


@pytest.mark.parametrize("place", ["attention", "embedding", "residual"])
def test_dropout_of_each_place_changes_the_loss_and_only_with_its_rate(place):
    a = architecture(2, 4, 32, 96)
    model = Olmo(a).initialise(seed=0)
    tokens = some_tokens(a, 2, 20)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    plain = model.losses(inputs, targets)
    torch.testing.assert_close(model.losses(inputs, targets, Dropout(Rates())), plain)
    dropped = model.losses(inputs, targets, Dropout(Rates(**{place: 0.5})))
    assert (dropped[:, -1] - plain[:, -1]).abs().min() > 1e-4


# --- checkpoints ----------------------------------------------------------------------------------


def test_mups_table_travels_with_the_weights(tmp_path):
    a = architecture(2, 4, 32, 96)
    save_checkpoint(Olmo(a).initialise(seed=0), tmp_path, end_of_text=0)
    saved = json.loads((tmp_path / MUP).read_text())
    assert saved["base_width"] == 16
    assert set(saved["tensors"]) == set(load_file(tmp_path / WEIGHTS)) == set(a.shapes())
    table = saved["tensors"]
    assert table["model.embed_tokens.weight"] == {"init_std": 16**-0.5, "lr_multiplier": 1.0}
    assert table["lm_head.weight"] == {"init_std": 4 / 32, "lr_multiplier": 0.5}
    down = {"init_std": 1 / math.sqrt(96), "lr_multiplier": 0.5}
    assert table["model.layers.1.mlp.down_proj.weight"] == down
    assert read_architecture(tmp_path) == a


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", ["LlamaForCausalLM"]),
        ("clip_qkv", 8.0),
        ("attention_bias", True),
        ("tie_word_embeddings", True),
    ],
)
def test_another_architecture_is_one_clear_line(key, value, tmp_path):
    save_checkpoint(Olmo(architecture(1, 1, 16, 24)), tmp_path, end_of_text=0)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(PipelineError, match=f"config.json: {key} is") as error:
        load_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_the_config_are_named(tmp_path):
    save_checkpoint(Olmo(architecture(1, 1, 16, 24)).initialise(0), tmp_path, end_of_text=0)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors | {"lm_head.weight": torch.zeros(3, 16)}, tmp_path / WEIGHTS)
    with pytest.raises(PipelineError, match=r"lm_head.weight is \(3, 16\).* says \(80, 16\)"):
        load_checkpoint(tmp_path)
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(PipelineError, match=r"lm_head.weight is missing"):
        load_checkpoint(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(PipelineError, match=r"model.safetensors: not a readable"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(PipelineError, match=r"config.json: not readable"):
        load_checkpoint(tmp_path)
