"""What a job asks a cluster for, by stage, and for released models by size (docs/resources.md).

The time and disk of what trains or measures a model are computed (`overtrain.planning.asked`); here
is what does not follow from the model.
"""

from __future__ import annotations

from pydantic import Field

from overtrain.config.section import Count, Named, Positive, Section, Text


class Resources(Section):
    """Of the first attempt."""

    threads: Count
    mem_mb: Count = Field(description="MB of host memory")
    runtime: Count = Field(description="Minutes beside what is computed")
    gpu: int = Field(ge=0, description="GPUs")


class OfTraining(Resources):
    state_minutes: Positive = Field(
        description="Minutes between two states, from the last of which a killed job goes on"
    )


class OfPretraining(OfTraining):
    micro_batch: Count = Field(description="Windows in one pass of a GPU")


class OfTuning(OfTraining):
    micro_batch: Count = Field(
        description="Conversations in one pass of a GPU; memory, not results"
    )


class OfJudge(Resources):
    size: Text = Field(description="A key of shapes: the judge's own")


class AllResources(Section):
    """By stage; of released models also by size, which is a model's `size`."""

    limit: Count | None = Field(
        description="Minutes that the site lets a job run at most; null: no limit"
    )
    download_text: Resources
    tokenise: Resources
    corpus: Resources
    task: Resources
    pretrain: OfPretraining
    finetune: OfTraining
    evaluate: Resources
    perturb: Resources
    perturb_released: Resources
    images: Resources
    encoder: Resources
    finetune_instruct: Named[OfTuning] = Field(min_length=1)
    align_projector: Named[OfTuning] = Field(min_length=1)
    finetune_vision: Named[OfTuning] = Field(min_length=1)
    generate: Named[Resources] = Field(min_length=1)
    benchmarks: Named[Resources] = Field(min_length=1)
    evaluate_vision: Named[Resources] = Field(min_length=1)
    judge: OfJudge
    download: Resources
    theory: Resources
    draw: Resources


# Stages whose resources go by a released model's size.
TUNING = ("finetune_instruct", "align_projector", "finetune_vision")
SIZED = (*TUNING, "generate", "benchmarks", "evaluate_vision")
