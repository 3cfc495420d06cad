"""What one study alone needs: linear networks (section 4), and "Amuro & Char"."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from overtrain.config.section import Count, Distinct, Name, Named, Positive, Section, Seed, Text

Tau = Annotated[float, Field(gt=0, le=350)]  # exp(-350) is still a float


# --- two-layer linear networks (section 4, appendix A) --------------------------------------------


class Features(Section):
    """Pre-training's singular values, a geometric sequence."""

    count: int = Field(ge=2, description="Features, and the width d of the network")
    largest: Positive
    smallest: Positive

    @model_validator(mode="after")
    def decreasing(self) -> Features:
        if self.smallest >= self.largest:
            raise ValueError(
                f"smallest is {self.smallest}; it must be less than largest ({self.largest})"
            )
        return self


class FlowCheckpoints(Section):
    taus: Distinct[Tau] = Field(
        description="Initial scales at which the checkpoints' distance from the ideal is measured"
    )


class FlowNoise(Section):
    gammas: Distinct[Positive]
    draws: int = Field(ge=2, description="Draws of noise for each network")


Ratios = Annotated[
    list[Positive],
    Field(
        min_length=2,
        max_length=2,
        description="Ratio of the fine-tuning to the pre-training feature, first and last",
    ),
]


class FlowFineTuning(Section):
    spectra: Named[Ratios] = Field(min_length=1)
    lambdas: Distinct[Annotated[float, Field(ge=0)]]
    batch_size: Count = Field(description="Inputs in a batch; at least the number of features")
    step: float = Field(
        gt=0,
        lt=1,
        description="Learning rate as a share of the largest that assumption A.8 allows",
    )
    tolerance: float = Field(
        ge=1e-12,
        lt=1,
        description="Relative distance of every feature from its limit after fine-tuning",
    )


class Theory(Section):
    """Two-layer linear networks."""

    features: Features
    tau: Tau = Field(description="Weights start at exp(-tau) times the identity")
    seeds: Distinct[Seed] = Field(description="A network each: singular vectors, noise, batches")
    pretraining: FlowCheckpoints
    noise: FlowNoise
    fine_tuning: FlowFineTuning

    @model_validator(mode="after")
    def fits(self) -> Theory:
        """Features decrease before and after fine-tuning (section 4.3)."""
        largest, smallest = self.features.largest, self.features.smallest
        for name, (first, last) in self.fine_tuning.spectra.items():
            if first * largest <= last * smallest:
                raise ValueError(
                    f"fine_tuning.spectra.{name} is [{first}, {last}]; its features must "
                    f"decrease: last / first less than {largest / smallest:g}, as pre-training's do"
                )
        if 0 not in self.fine_tuning.lambdas:
            own = ", ".join(f"{penalty:g}" for penalty in self.fine_tuning.lambdas)
            raise ValueError(
                f"fine_tuning.lambdas is [{own}]; "
                "it must hold 0, fine-tuning without penalty (Theorem 4.7, part 1)"
            )
        if self.fine_tuning.batch_size < self.features.count:
            raise ValueError(
                f"fine_tuning.batch_size is {self.fine_tuning.batch_size}; "
                f"it must be at least features.count ({self.features.count})"
            )
        return self

    def slice(self, experiment: str) -> dict:
        """experiment: pretraining, noise or fine_tuning."""
        own = getattr(self, experiment).plain()
        return self.plain("pretraining", "noise", "fine_tuning") | own


# --- numbers that authors released ----------------------------------------------------------------


class ReleasedNumbers(Section):
    """Files of one source, pinned; copies in a local folder come first."""

    url: Annotated[str, StringConstraints(pattern=r"\{file\}")] = Field(
        description="Address of a file; {commit} and {file} are filled in"
    )
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] = Field(
        description="Full SHA of a commit"
    )
    files: dict[
        Name,
        Annotated[
            str,
            StringConstraints(pattern=r"^[0-9a-f]{64}$"),
            Field(description="SHA-256 of the file"),
        ],
    ] = Field(min_length=1)
    local: str | None = Field(
        default=None, description="A folder that holds the source's folder with copies of the files"
    )
    download: bool = Field(
        default=True,
        description="Whether the network may be asked; if not, targets without copies are left out",
    )

    def slice(self) -> dict:
        """What the files are; where they come from does not matter, their hashes do."""
        return {"files": self.files}


class StudyEvaluation(Section):
    title: Text
    metric: Text


class StudyTask(Section):
    title: Text
    trained_on: Text = Field(description="A key of trained_on")
    learning_rate: Positive
    in_domain: list[Text]
    out_of_domain: list[Text]
    prompts: dict[str, Text] | None = None
    output: str | None = None


class StudyHours(Section):
    """What the paper's experiments took, in GPU hours (its Table 2)."""

    preliminary: Positive = Field(description="Preliminary experiments, together")
    tuned: Named[
        Annotated[
            dict[
                Literal["training", "evaluation", "out_of_domain", "across_tasks", "formats"],
                Positive,
            ],
            Field(min_length=1),
        ]
    ] = Field(min_length=1, description="By the names of trained_on")


class Licence(Section):
    """Of a model or of data (its Table 4)."""

    printed: Text = Field(description="As the paper has it")
    hub: Text | None = Field(default=None, description="What the hub says, where it differs")


class OurTuning(Section):
    task: Name = Field(description="A key of tasks")
    recipe: Name = Field(description="A key of instruction_recipes")
    learning_rate: Positive = Field(description="The paper's choice among the recipe's")


class OurRuns(Section):
    """The same study, run here."""

    model: Name = Field(description="A key of models, with the study's checkpoints")
    tuned: Named[OurTuning] = Field(
        min_length=1, description="By the names of trained_on: what we fine-tune on, and how"
    )


class AmuroChar(Section):
    """The second paper: OLMo-1B's checkpoints, fine-tuned and evaluated few-shot."""

    model: Text
    checkpoints: Distinct[
        Annotated[
            str,
            StringConstraints(pattern=r"^(step[0-9]+|main)$"),
            Field(description="stepN or main, in the order of pre-training"),
        ]
    ]
    shots: int = Field(ge=0, description="Examples in a prompt, of base and fine-tuned model alike")
    ours: OurRuns
    tokens_per_step: Count = Field(description="Pre-training tokens in a step")
    last_step: Count = Field(description="Step of the checkpoint main")
    trained_on: Named[Text] = Field(min_length=1, description="Fine-tuning data: name and title")
    evaluations: Named[StudyEvaluation] = Field(min_length=1)
    tasks: Named[StudyTask] = Field(min_length=1, description="Of its Tables 1 and 3")
    hours: StudyHours
    licences: dict[Text, Licence] = Field(min_length=1, description="Of its Table 4")

    def tokens_of(self, checkpoint: str) -> int:
        """Pre-training tokens of one of its checkpoints."""
        step = self.last_step if checkpoint == "main" else int(checkpoint.removeprefix("step"))
        return step * self.tokens_per_step

    def reading_slice(self) -> dict:
        """What the measurements depend on that are read from the released files."""
        keys = ("model", "checkpoints", "tokens_per_step", "last_step")
        metrics = {name: evaluation.metric for name, evaluation in self.evaluations.items()}
        return {key: getattr(self, key) for key in keys} | {"metrics": metrics}
