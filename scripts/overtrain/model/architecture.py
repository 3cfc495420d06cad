"""The OLMo architecture as numbers: shapes, parameter counts and muP, without torch.

OLMo here is the first one (non-parametric LayerNorm, RoPE, SwiGLU, no biases), as
`transformers.OlmoForCausalLM` implements it. muP follows Yang et al. (2022, Tensor Programs V,
Table 3), whose form needs no multiplier at run time, so a saved checkpoint is an ordinary
`OlmoForCausalLM`:

    group        init std                        AdamW learning rate   weight decay
    embedding    1 / sqrt(base)                  1                     1
    hidden       1 / sqrt(fan_in)                base / width          width / base
    head         sqrt(base) / width              base / width          width / base

Weight decay grows as the rate shrinks, so that rate x decay, the decay per step, stays the same at
every width (as in the authors' `mup` package). At width = base all of it is the standard
parameterisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

IGNORE = -100  # a target with this id carries no loss (torch's default)


@dataclass(frozen=True)
class Architecture:
    """Shape of one OLMo.

    `mlp_size` is the width of *each* of the three SwiGLU matrices (`intermediate_size` in
    transformers); `base_width` is the width at which muP equals the standard parameterisation, or
    None for the standard parameterisation at every width.
    """

    layers: int
    heads: int
    hidden_size: int
    mlp_size: int
    context: int
    vocabulary: int
    base_width: int | None = None
    rope_theta: float = 10000.0

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Every tensor by its transformers name, (rows out, columns in)."""
        d, m = self.hidden_size, self.mlp_size
        shapes = {"model.embed_tokens.weight": (self.vocabulary, d)}
        for i in range(self.layers):
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                shapes[f"model.layers.{i}.self_attn.{name}.weight"] = (d, d)
            shapes[f"model.layers.{i}.mlp.gate_proj.weight"] = (m, d)
            shapes[f"model.layers.{i}.mlp.up_proj.weight"] = (m, d)
            shapes[f"model.layers.{i}.mlp.down_proj.weight"] = (d, m)
        shapes["lm_head.weight"] = (self.vocabulary, d)
        return shapes

    def parameter_counts(self) -> dict[str, int]:
        """Parameters `total`, in the `embedding` and the untied head, and `non_embedding`."""
        sizes = {name: rows * columns for name, (rows, columns) in self.shapes().items()}
        total = sum(sizes.values())
        non_embedding = sum(size for name, size in sizes.items() if ".layers." in name)
        return {
            "total": total,
            "embedding": total - non_embedding,
            "non_embedding": non_embedding,
        }

    def initial_std(self, name: str) -> float:
        """Standard deviation at which the tensor `name` (transformers name) is initialised."""
        base = self.base_width or self.hidden_size
        if name == "model.embed_tokens.weight":
            return 1 / math.sqrt(base)
        if name == "lm_head.weight":
            return math.sqrt(base) / self.hidden_size
        return 1 / math.sqrt(self.shapes()[name][1])

    def lr_multiplier(self, name: str) -> float:
        """muP's factor on AdamW's learning rate; its inverse goes on the weight decay."""
        if name == "model.embed_tokens.weight" or not self.base_width:
            return 1.0
        return self.base_width / self.hidden_size

    def mup_table(self) -> dict[str, dict[str, float]]:
        """What must travel with the weights: init std (for noise) and learning-rate multiplier."""
        return {
            name: {"init_std": self.initial_std(name), "lr_multiplier": self.lr_multiplier(name)}
            for name in self.shapes()
        }

    def transformers_config(self, end_of_text: int) -> dict:
        """`config.json` of the equal `OlmoForCausalLM`."""
        return {
            "architectures": ["OlmoForCausalLM"],
            "model_type": "olmo",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.mlp_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "attention_bias": False,
            "attention_dropout": 0.0,
            "clip_qkv": None,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": end_of_text,
            "pad_token_id": None,  # transformers would freeze the padding token's embedding
            "use_cache": True,
            "dtype": "float32",
        }
