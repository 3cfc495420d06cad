"""What a job asks a cluster for, by stage, and for released models by size (docs/resources.md)."""

from __future__ import annotations

from pydantic import Field

from overtrain.config.section import Count, Named, Positive, Section


class Resources(Section):
    """Of the first attempt."""

    threads: Count
    mem_mb: Count = Field(description="MB of host memory")
    runtime: Count = Field(description="Minutes")
    gpu: int = Field(ge=0, description="GPUs")


class OfTraining(Resources):
    state_minutes: Positive = Field(
        description="Minutes between two states, from the last of which a killed job goes on"
    )


class OfPretraining(OfTraining):
    micro_batch: Count = Field(description="Windows in one pass of a GPU")


class OfSize(Resources):
    disk_mb: Count = Field(description="MB of disk that the job's files take while it runs")


class OfInstructionTuning(OfSize, OfTraining):
    micro_batch: Count = Field(
        description="Conversations in one pass of a GPU; memory, not results"
    )


class AllResources(Section):
    """By stage; of released models also by size, which is a model's `size`."""

    download_text: Resources
    tokenise: Resources
    corpus: Resources
    task: Resources
    pretrain: OfPretraining
    finetune: OfTraining
    evaluate: Resources
    perturb: Resources
    perturb_released: Resources
    finetune_instruct: Named[OfInstructionTuning] = Field(min_length=1)
    generate: Named[OfSize] = Field(min_length=1)
    benchmarks: Named[OfSize] = Field(min_length=1)
    judge: Resources
    download: Resources
    theory: Resources
    draw: Resources


SIZED = ("finetune_instruct", "generate", "benchmarks")  # stages whose resources go by size
