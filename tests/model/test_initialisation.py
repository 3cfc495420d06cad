"""Stds at initialisation: transformers' own, drawn samples, and OLMo's formulas at its shape."""

import math

import pytest
import torch
from scipy.stats import truncnorm

from overtrain.model.initialisation import initial_std, truncated_std

NORMAL = {"kind": "normal", "std": 0.02, "cutoff": None}
MITCHELL = {"kind": "mitchell", "cutoff": None}


@pytest.mark.parametrize("cutoff", [0.5, 1, 2, 3, 5])
def test_the_std_of_what_a_cutoff_leaves_is_scipys(cutoff):
    assert truncated_std(cutoff) == pytest.approx(truncnorm.std(-cutoff, cutoff), rel=1e-9)
    assert truncated_std(None) == 1


def test_at_olmos_cutoff_it_is_that_of_torchs_draws():
    torch.manual_seed(0)
    drawn = torch.nn.init.trunc_normal_(torch.empty(1000, 1000), std=0.02, a=-0.06, b=0.06)
    std = initial_std({"kind": "normal", "std": 0.02, "cutoff": 3}, "a", (1000, 1000))
    assert drawn.std().item() == pytest.approx(std, rel=4 / 2e6**0.5)  # 0.14 %; untruncated, 1.3 %
    assert std == pytest.approx(0.02 * 0.98658, rel=1e-5)


def test_normal_is_what_transformers_draws_for_a_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=1000, num_attention_heads=4, **shape))
    vectors = set()
    for name, tensor in model.named_parameters():
        std = initial_std(NORMAL, name, tensor.shape)
        assert tensor.std().item() == pytest.approx(std, rel=5 / (2 * tensor.numel()) ** 0.5)
        if not std:
            vectors.add(name.split(".")[-2])
    assert vectors == {"norm", "input_layernorm", "post_attention_layernorm"}


@pytest.mark.parametrize(
    ("name", "shape", "variance"),
    [  # OLMo-1B: width 2048, MLP 8192, 16 layers
        ("model.embed_tokens.weight", (50304, 2048), 1 / 2048),
        ("model.layers.0.self_attn.q_proj.weight", (2048, 2048), 1 / 2048),
        ("model.layers.15.self_attn.v_proj.weight", (2048, 2048), 1 / 2048),
        ("model.layers.15.mlp.up_proj.weight", (8192, 2048), 1 / 2048),
        ("model.layers.0.self_attn.o_proj.weight", (2048, 2048), 1 / (2 * 2048)),
        ("model.layers.15.self_attn.o_proj.weight", (2048, 2048), 1 / (2 * 2048 * 16)),
        ("model.layers.0.mlp.down_proj.weight", (2048, 8192), 1 / (2 * 8192)),
        ("model.layers.15.mlp.down_proj.weight", (2048, 8192), 1 / (2 * 8192 * 16)),
    ],
)
def test_mitchell_is_olmos_formula(name, shape, variance):
    assert initial_std(MITCHELL, name, shape) == pytest.approx(math.sqrt(variance))
    truncated = initial_std(MITCHELL | {"cutoff": 3}, name, shape)
    assert truncated == pytest.approx(math.sqrt(variance) * 0.98658, rel=1e-5)


@pytest.mark.parametrize("kind", [NORMAL, MITCHELL])
def test_a_vector_has_no_std(kind):
    assert initial_std(kind, "model.layers.3.self_attn.q_norm.weight", (64,)) == 0
