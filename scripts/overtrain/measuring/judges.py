"""Who says which of two answers is better: judges by their kind in the configuration.

`openai` (any endpoint that speaks its API) and `vllm` (the job serves the model itself) are in
`endpoint`; here are a local `transformers` model and `overlap`, which is no language model but
ROUGE-L with the prompt's known answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from overtrain import PipelineError
from overtrain.measuring.task_scores import rouge_l
from overtrain.measuring.verdicts import (
    IDENTIFIERS,
    Judge,
    Question,
    Template,
    Verdict,
    identity_of,
    likelier,
)


@contextmanager
def open_judge(
    name: str, settings: dict, gpus: int = 0, folder: Path | None = None
) -> Iterator[Judge]:
    """The judge that the configuration's `judges.{name}` describes, until the block ends.

    folder: where its model was downloaded to, with a manifest; else `settings` say where it is.
    """
    if settings["kind"] == "overlap":
        yield Overlap()
    elif settings["kind"] == "transformers":
        yield Local(settings, gpus, folder)
    else:
        from overtrain.measuring import endpoint

        with endpoint.open_endpoint(name, settings, gpus, folder) as judge:
            yield judge


class Overlap:
    """The output that shares more with the known answer, by ROUGE-L's F measure."""

    def __init__(self) -> None:
        self.identity = {"kind": "overlap"}
        self.score = cache(rouge_l)

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Verdict]]:
        for place, q in enumerate(questions):
            if q.answer is None:
                raise PipelineError(
                    "the judge of kind overlap needs prompts with known answers; these have none"
                )
            first, second = (self.score(q.answer, output) for output in (q.first, q.second))
            yield place, Verdict(likelier(first, second), f"{first:.4f} {second:.4f}")


class Local:
    """A causal language model here: the logits of m and M after the chat-formatted question.

    Batches are made here, as lm-eval answers all at the end: a job that is killed keeps these.
    """

    def __init__(self, settings: dict, gpus: int = 0, folder: Path | None = None):
        import torch

        from overtrain.model.chat import load_tokenizer
        from overtrain.model.released import load_model

        self.template = Template(settings["template"])
        self.identity = identity_of(settings, self.template, folder)
        self.batch_size = settings["batch_size"]
        cuda = gpus > 0 and torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu")
        self.tokenizer = load_tokenizer(folder or settings["model"])
        dtype = torch.bfloat16 if cuda else torch.float32
        self.model = load_model(folder or settings["model"], dtype).to(self.device).eval()
        self.ids = []
        for identifier in IDENTIFIERS:
            ids = self.tokenizer(identifier, add_special_tokens=False).input_ids
            if len(ids) != 1:
                raise PipelineError(f"{settings['model']}: {identifier!r} is not one token of it")
            self.ids += ids

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Verdict]]:
        import torch

        encoded = [self.encode(question) for question in questions]
        room = self.model.config.max_position_embeddings
        for places in by_length(encoded, self.batch_size):
            longest = len(encoded[places[0]])
            if longest > room:
                raise PipelineError(f"a question of {longest} tokens; the judge takes {room}")
            own = {"input_ids": [encoded[place] for place in places]}
            batch = self.tokenizer.pad(own, padding_side="left", return_tensors="pt")
            batch = batch.to(self.device)
            positions = (batch.attention_mask.cumsum(1) - 1).clamp(min=0)
            with torch.inference_mode():
                out = self.model(**batch, position_ids=positions, logits_to_keep=1)
            for place, (m, big_m) in zip(places, out.logits[:, -1, self.ids].tolist(), strict=True):
                yield place, Verdict(likelier(m, big_m), f"{m:.4f} {big_m:.4f}")

    def encode(self, question: Question) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            self.template.messages(question), tokenize=False, add_generation_prompt=True
        )
        return self.tokenizer(text, add_special_tokens=False).input_ids


def by_length(encoded: Sequence[list[int]], batch_size: int) -> list[list[int]]:
    """Places of `encoded` in batches, the longest first: what does not fit fails at once."""
    order = sorted(range(len(encoded)), key=lambda place: -len(encoded[place]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
