"""The GPU that costs are counted on, how well each kind of work uses it, and the site's rates.

What the plan expects and the time that jobs ask for are products over these numbers
(`overtrain.planning`, docs/plan.md). `tools/calibrate` measures what is assumed here.
"""

from __future__ import annotations

from pydantic import Field

from overtrain.config.section import Count, Positive, Section, Share, Text

Used = Share  # 0 to 1


class Utilisation(Section):
    """By kind of work: the share of the GPU's FLOP/s that models' products reach."""

    pretraining: Used
    sweep: Used = Field(description="Fine-tuning of a stack of small models")
    instruction: Used = Field(description="Instruction tuning of released models")
    stacks: Used = Field(description="Losses of stacks of small models")
    curvature: Used = Field(description="Hessian-vector products")
    released: Used = Field(description="Losses of a released model, float32")
    benchmarks: Used
    judge: Used
    memory: Used = Field(description="Of the memory's bandwidth, by updates of weights")
    decoding: Used = Field(description="Of the memory's bandwidth, by generation")


class Hardware(Section):
    """Rates are of one GPU, or of the one CPU that does its work where no GPU is asked for."""

    gpu: Text = Field(description="Name, for people")
    bf16: Positive = Field(description="FLOP/s of dense products in bfloat16")
    tf32: Positive = Field(description="FLOP/s of dense products in TF32")
    fp32: Positive = Field(description="FLOP/s of products in float32")
    memory_gb: Positive
    bandwidth: Positive = Field(description="Bytes/s of its memory")
    utilisation: Utilisation
    layer_seconds: Positive = Field(
        description="Least seconds of a layer in a step of generation with transformers"
    )
    noise: Positive = Field(description="Numbers of Gaussian noise that the host draws in a second")
    disk: Positive = Field(description="Bytes/s that a job reads or writes")
    network: Positive = Field(description="Bytes/s of downloads")
    tokenise: Positive = Field(description="Tokens that a CPU core makes of text in a second")
    start_seconds: Positive = Field(description="Of a job: environment, imports, compiling")
    margin: float = Field(ge=1, description="Time that jobs ask for, over what is expected")


class ReleasedShape(Section):
    """The shape of a released model, for what it costs; without norms and biases."""

    layers: Count
    hidden_size: Count
    mlp_size: Count = Field(description="Width of each of the three SwiGLU matrices")
    vocabulary: Count
    key_value_size: Count | None = Field(
        default=None, description="Width of keys and of values; null: hidden_size"
    )
    tied: bool = Field(description="Embedding and head are one matrix")
