"""Every kind of fault in a configuration is one line: the key, its value, and what is allowed."""

import pytest
import yaml
from configuration import DELETE, PAPERS, at_scale, changed, checked

from overtrain import PipelineError


def message(config: dict) -> str:
    """The one line of a configuration's first fault."""
    with pytest.raises(PipelineError) as caught:
        checked(config)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_papers_configuration_is_valid():
    checked(PAPERS)


@pytest.mark.parametrize("names", [[], ["tests/tiny.yaml"], ["profiles/evidence/overlay.yaml"]])
def test_overlays_are_valid_over_the_demos(names):
    checked(at_scale("profiles/demo/overlay.yaml", *names))


OVERTRAINED = "figures/overtrained"
FIG05 = f"{OVERTRAINED}/fig05"
TRADEOFF = "figures/overtrained/theory_tradeoff"
RELEASED = "released_numbers/amuro_char"
FILES = "released_numbers.amuro_char.files"
STUDY = "figures/amuro_char"
TRANSFER = "tables/amuro_char/transfer"
FAULTS = {
    # fault: (key, value, what the line must say)
    "wrong key": ("pretraining/batch_sise", 3, ["pretraining: ", "'batch_sise'", "'batch_size'"]),
    "wrong key at the top": ("seed", 3, ["'seed'", "allowed: ", "recipes"]),
    "missing key": ("pretraining/clip", DELETE, ["pretraining: ", "'clip' is missing"]),
    "missing section": ("evaluations", DELETE, ["'evaluations' is missing"]),
    "text for an integer": (
        "pretraining/batch_size",
        "many",
        ["pretraining.batch_size is ", '"many"', "integer"],
    ),
    "exponent without a point": (
        "recipes/default/learning_rates/2",
        yaml.safe_load("1e-5"),
        ["recipes.default.learning_rates.2 is ", '"1e-5"', "number", "1.0e-5"],
    ),
    "number for a section": ("tasks", 3, ["tasks is 3", "object"]),
    "above the range": ("pretraining/warmup", 1.5, ["pretraining.warmup is 1.5", "at most 1"]),
    "below the range": ("resources/draw/gpu", -1, ["resources.draw.gpu is -1", "at least 0"]),
    "zero rate": (
        "pretraining/learning_rate",
        0,
        ["pretraining.learning_rate is 0", "greater than 0"],
    ),
    "not below one": (
        "pretraining/betas/1",
        1.0,
        ["pretraining.betas.1 is 1.0", "less than 1"],
    ),
    "budget without a unit": (
        "models/OLMo-15M/budgets/0",
        "4 billion",
        ["models.OLMo-15M.budgets.0", '"4 billion"', "KMBT", "4B"],
    ),
    "no seeds": ("recipes/default/seeds", [], ["recipes.default.seeds is []", "at least 1"]),
    "a rate twice": (
        "recipes/batch32/learning_rates",
        [0.1, 0.1],
        ["recipes.batch32.learning_rates is [0.1, 0.1]", "differ"],
    ),
    "unknown scheduler": (
        "recipes/constant/scheduler",
        "linear",
        ["recipes.constant.scheduler is ", '"linear"', "cosine", "constant"],
    ),
    "odd head size": (
        "models/OLMo-15M/architecture/heads",
        64,
        ["models.OLMo-15M.architecture.hidden_size is 192", "even multiple of heads (64)"],
    ),
    "more labels than choices": (
        "tasks/mr/label/values",
        [0, 1, 2],
        ["tasks.mr.label.values has 3", "choices has 2"],
    ),
    "unknown corpus": (
        "models/OLMo-15M/corpus",
        "c5",
        ["models.OLMo-15M.corpus is 'c5'", "not in corpora", "allowed: c4, c4_olmo2"],
    ),
    "unknown task stood for": (
        "tasks/six_packages/stands_for",
        "terc",
        ["tasks.six_packages.stands_for is 'terc'", "'trec'"],
    ),
    "unknown task among those stood for": (
        "tasks/six_packages/stands_for",
        ["trec", "twit_sentiment"],
        ["tasks.six_packages.stands_for is 'twit_sentiment'", "'tweet_sentiment'"],
    ),
    "unknown word in a title": (
        f"{OVERTRAINED}/fig30/title",
        "Batch {batch}",
        ["fig30.title is 'Batch {batch}'", "in braces it may name models, ", "batch_size"],
    ),
    "unknown word in an index": (
        "tables/overtrained/table5/columns/0/title",
        "{batch}",
        ["table5: a title is '{batch}'", "models"],
    ),
    "an empty cell in an index": (
        "tables/overtrained/table5/rows/0/match/tasks",
        "tulip",
        ["table5: no figure of overtrained has all of", '"tulip"', "{models}, tuned"],
    ),
    "missing constant of the schematic": (
        f"{OVERTRAINED}/fig07/formula/alpha",
        DELETE,
        ["figures.overtrained.fig07.formula: the key 'alpha' is missing"],
    ),
    "schematic without a range": (
        f"{OVERTRAINED}/fig07/largest_tokens",
        1,
        ["figures.overtrained.fig07.largest_tokens is 1", "greater than 1", "smallest budget"],
    ),
    "unknown model in a set": (
        "model_sets/main",
        ["OLMo-31M"],
        ["model_sets.main is 'OLMo-31M'", "not in models", "OLMo-30M"],
    ),
    "unknown task in a set": (
        "task_sets/six/1",
        "starcoder",
        ["task_sets.six is 'starcoder'", "not in tasks", "starcoder_python"],
    ),
    "unknown plot": (
        f"{FIG05}/plot",
        "by_tokens",
        ["figures.overtrained.fig05.plot is ", '"by_tokens"', "learning_rates_by_tokens"],
    ),
    "unknown evaluation": (
        f"{FIG05}/rows/0/evaluation",
        "c5",
        ["figures.overtrained.fig05.rows.0.evaluation is ", '"c5"', "c4, id"],
    ),
    "unknown set of models": (
        f"{FIG05}/models",
        "mian",
        ["figures.overtrained.fig05.models is 'mian'", "not in model_sets", "'main'"],
    ),
    "unknown set of tasks": (
        f"{FIG05}/tasks",
        "sixx",
        ["figures.overtrained.fig05.tasks is 'sixx'", "not in task_sets", "'six'"],
    ),
    "unknown model in a figure": (
        f"{FIG05}/models",
        ["OLMo-2B"],
        ["figures.overtrained.fig05.models is 'OLMo-2B'", "not in models", "OLMo-90M"],
    ),
    "released model that would be fine-tuned": (
        f"{FIG05}/models",
        ["OLMo-30M", "OLMo-1B"],
        ["figures.overtrained.fig05.models names OLMo-1B", "released", "noise_by_tokens"],
    ),
    "released model in the table of what is pre-trained": (
        "model_sets/controlled",
        ["LLM360-Amber"],
        ["tables.overtrained.table3.models names LLM360-Amber", "released"],
    ),
    "released model with a shape": (
        "models/OLMo-1B/architecture",
        {"layers": 16},
        ["models.OLMo-1B: unknown key 'architecture'", "hub"],
    ),
    "released model without an initialisation": (
        "models/OLMo-1B/initialisation",
        DELETE,
        ["fig65.models names OLMo-1B", "no `initialisation`", "noise"],
    ),
    "released model of no known size": (
        "models/OLMo-1B/size",
        "1b",
        ["models.OLMo-1B.size is '1b'", "not in resources.finetune_instruct", "1B, 7B"],
    ),
    "a reference that is no checkpoint": (
        "models/OLMo-1B/reference",
        "3T",
        ["models.OLMo-1B.reference is '3T'", "hub.checkpoints", "'3.1T'"],
    ),
    "a reference that is left out": (
        "models/OLMo-1B/hub/checkpoints/3.1T",
        None,
        ["models.OLMo-1B.reference is '3.1T'", "hub.checkpoints", "1.9T, 2.4T"],
    ),
    "a reference run that is not run": (
        "evaluations/alpaca/reference/seed",
        7,
        ["evaluations.alpaca.reference is ", '"seed": 7', "'instruct'", "lr1e-05-seed0"],
    ),
    "a judge by known answers, and prompts without": (
        "evaluations/alpaca/judge",
        "answer_overlap",
        ["evaluations.alpaca.judge is 'answer_overlap'", "known answers", "'alpaca_eval' has none"],
    ),
    "a batch that the GPUs do not make": (
        "resources/finetune_instruct/7B/gpu",
        3,
        ["instruct.batch_size is 256", "multiple of micro_batch x gpu", "OLMo-2-7B (4 x 3)"],
    ),
    "unknown judge": (
        "evaluations/alpaca/judge",
        "llama",
        ["evaluations.alpaca.judge is 'llama'", "not in judges", "llama3_70b"],
    ),
    "a judge with a key in the configuration": (
        "judges/endpoint/api_key",
        "sk-1",
        ["judges.endpoint: unknown key 'api_key'", "allowed", "key"],
    ),
    "unknown suite": (
        "evaluations/benchmarks/suite",
        "general",
        ["evaluations.benchmarks.suite is 'general'", "'generalist'"],
    ),
    "unknown prompts": (
        "evaluations/alpaca/prompts",
        "alpaca",
        ["evaluations.alpaca.prompts is 'alpaca'", "'alpaca_eval'"],
    ),
    "a benchmark that is not measured": (
        "figures/overtrained/fig02/panels/1/evaluations",
        ["arc"],
        ["fig02.panels has 'arc'", "generalist", "arc_easy"],
    ),
    "a win rate in a mean of accuracies": (
        "figures/overtrained/fig01/panels/0/evaluations",
        ["alpaca", "piqa"],
        ["fig01.panels takes a mean of alpaca, piqa", "panel of its own"],
    ),
    "instruction tuning on no conversations": (
        "task_sets/hh",
        ["mr"],
        ["tasks names mr, of kind classification", "kind chat"],
    ),
    "a sweep on conversations": (
        "task_sets/six",
        ["tulu"],
        ["tasks names tulu, of kind chat", "no tasks of kind chat"],
    ),
    "instruction tuning by a sweep's recipe": (
        "figures/overtrained/fig12/recipe",
        "default",
        ["fig12.recipe is 'default'", "not in instruction_recipes"],
    ),
    "instruction tuning of a model pre-trained here": (
        "model_sets/released_1b",
        ["OLMo-30M"],
        ["names OLMo-30M, which has no `hub`"],
    ),
    "sampled answers": (
        "evaluations/alpaca/temperature",
        0.7,
        ["evaluations.alpaca: unknown key 'temperature'"],
    ),
    "a conversation of one token": (
        "instruction_recipes/instruct/max_length",
        1,
        ["instruction_recipes.instruct.max_length is 1", "at least 2", "Tokens"],
    ),
    "unknown initialisation": (
        "models/OLMo-1B/initialisation/kind",
        "xavier",
        ["models.OLMo-1B.initialisation.kind is ", '"xavier"', "mitchell, normal"],
    ),
    "normal without a std": (
        "models/OLMo-2-7B/initialisation/std",
        DELETE,
        ["models.OLMo-2-7B.initialisation: the key 'std' is missing"],
    ),
    "released budget without a unit": (
        "models/OLMo-1B/hub/checkpoints/0.5T/tokens",
        "494",
        ["models.OLMo-1B.hub.checkpoints.0.5T.tokens", '"494"', "KMBT"],
    ),
    "released checkpoint without a revision": (
        "models/OLMo-1B/hub/checkpoints/0.5T/revision",
        DELETE,
        ["models.OLMo-1B.hub.checkpoints.0.5T: the key 'revision' is missing"],
    ),
    "unknown task in a figure": (
        f"{FIG05}/tasks",
        ["mrr"],
        ["figures.overtrained.fig05.tasks is 'mrr'", "not in tasks", "'mr'"],
    ),
    "unknown recipe in a figure": (
        f"{FIG05}/recipe",
        "defualt",
        ["figures.overtrained.fig05.recipe is 'defualt'", "not in recipes", "'default'"],
    ),
    "wrong key of a figure": (
        f"{FIG05}/row",
        [],
        ["figures.overtrained.fig05: ", "'row'", "'rows'"],
    ),
    "features that do not decrease": (
        "theory/features/smallest",
        2.0,
        ["theory.features.smallest is 2.0", "less than largest (2.0)"],
    ),
    "fine-tuning features that do not decrease": (
        "theory/fine_tuning/spectra/graded",
        [0.5, 5.0],
        [
            "theory.fine_tuning.spectra.graded is [0.5, 5.0]",
            "decrease",
            "last / first less than 10",
        ],
    ),
    "a spectrum of one ratio": (
        "theory/fine_tuning/spectra/graded",
        [1.0],
        ["theory.fine_tuning.spectra.graded is [1.0]", "at least 2", "first and last"],
    ),
    "a spectrum of a negative ratio": (
        "theory/fine_tuning/spectra/alpha2",
        [2.0, -2.0],
        ["theory.fine_tuning.spectra.alpha2.1 is -2.0", "greater than 0"],
    ),
    "a batch without full rank": (
        "theory/fine_tuning/batch_size",
        7,
        ["theory.fine_tuning.batch_size is 7", "at least features.count (8)"],
    ),
    "one feature": ("theory/features/count", 1, ["theory.features.count is 1", "at least 2"]),
    "an initial scale that underflows": (
        "theory/pretraining/taus/1",
        351,
        ["theory.pretraining.taus.1 is 351", "at most 350"],
    ),
    "one draw of noise": ("theory/noise/draws", 1, ["theory.noise.draws is 1", "at least 2"]),
    "negative penalty": (
        "theory/fine_tuning/lambdas/0",
        -1,
        ["theory.fine_tuning.lambdas.0 is -1", "at least 0"],
    ),
    "learning rate at its limit": (
        "theory/fine_tuning/step",
        1,
        ["theory.fine_tuning.step is 1", "less than 1", "A.8"],
    ),
    "no theory": ("theory", DELETE, ["'theory' is missing"]),
    "wrong key of theory": ("theory/tua", 100, ["theory: ", "'tua'", "'tau'"]),
    "no text to measure the curvature on": (
        "sharpness/tokens",
        0,
        ["sharpness.tokens is 0", "at least 1", "held-out text"],
    ),
    "too few resamples": (
        "statistics/bootstrap",
        10,
        ["statistics.bootstrap is 10", "at least 100", "Resamples"],
    ),
    "level in percent": ("statistics/level", 95, ["statistics.level is 95", "less than 1"]),
    "no noise": ("sharpness/gammas/0", 0, ["sharpness.gammas.0 is 0", "greater than 0"]),
    "wrong key of sharpness": ("sharpness/gamma", [0.1], ["sharpness: ", "'gamma'", "'gammas'"]),
    "no text to measure a direction on": (
        "interpolation/tokens",
        0,
        ["interpolation.tokens is 0", "at least 1", "held-out text"],
    ),
    "no budgets along a direction": ("interpolation/last", 0, ["interpolation.last is 0"]),
    "a panel of one lambda": (
        "interpolation/gaussian/near",
        [0],
        ["interpolation.gaussian.near is [0]", "at least 2"],
    ),
    "a direction of many runs": (
        "figures/overtrained/fig10/recipe",
        "default",
        ["fig10.recipe is 'default'", "27 learning rates", "3 seeds", "one run"],
    ),
    "a direction of two seeds": (
        "recipes/direction/seeds",
        [0, 1],
        ["fig10.recipe is 'direction'", "2 seeds", "one run"],
    ),
    "a fine-tuning direction without a recipe": (
        "figures/overtrained/fig10/recipe",
        DELETE,
        ["figures.overtrained.fig10", "'recipe'", "'tasks'"],
    ),
    "another experiment than its figure's": (
        f"{TRADEOFF}/experiment",
        "noise",
        ["figures.overtrained.theory_tradeoff.experiment is ", '"noise"', "be fine_tuning"],
    ),
    "unknown spectrum in a figure": (
        f"{TRADEOFF}/spectra",
        ["alpha2", "alpha5"],
        [
            "figures.overtrained.theory_tradeoff.spectra has 'alpha5'",
            "not in theory.fine_tuning.spectra",
            "alpha1.5",
        ],
    ),
    "unknown graded spectrum in a figure": (
        f"{TRADEOFF}/graded",
        "grade",
        [
            "figures.overtrained.theory_tradeoff.graded",
            "'grade'",
            "not in theory.fine_tuning.spectra",
            "'graded'",
        ],
    ),
    "no zero among the penalties": (
        "theory/fine_tuning/lambdas",
        [1, 2],
        ["theory.fine_tuning.lambdas is [1, 2]", "must hold 0"],
    ),
    "a penalty that is not simulated": (
        "figures/overtrained/theory_sensitivity/lambdas",
        [0, 7],
        [
            "figures.overtrained.theory_sensitivity.lambdas has 7",
            "not in theory.fine_tuning.lambdas",
            "allowed: 0, 0.5, 1",
        ],
    ),
    "models of a theory figure": (
        "figures/overtrained/theory_noise/models",
        "main",
        ["figures.overtrained.theory_noise: ", "'models'", "experiment"],
    ),
    "a sharpness figure without models": (
        "figures/overtrained/theory_sharpness/models",
        DELETE,
        ["figures.overtrained.theory_sharpness: ", "'models' is missing"],
    ),
    "no resources of a rule": ("resources/theory", DELETE, ["resources: ", "'theory' is missing"]),
    "no released numbers": ("released_numbers", DELETE, ["'released_numbers' is missing"]),
    "a commit by its short name": (
        f"{RELEASED}/commit",
        "8b79c39",
        ["released_numbers.amuro_char.commit is ", '"8b79c39"', "Full SHA"],
    ),
    "an address without the file": (
        f"{RELEASED}/url",
        "https://example.org/{commit}",
        ["released_numbers.amuro_char.url is ", "{file}"],
    ),
    "a hash of another kind": (
        f"{RELEASED}/files",
        {"one.csv": "d41d8cd98f00b204e9800998ecf8427e"},
        [
            "released_numbers.amuro_char.files.one.csv is ",
            "d41d8cd98f00b204e9800998ecf8427e",
            "SHA-256",
        ],
    ),
    "no files": (
        f"{RELEASED}/files",
        {},
        [f"{FILES} is {{}}", "at least 1"],
    ),
    "wrong key of released numbers": (
        f"{RELEASED}/locale",
        None,
        ["released_numbers.amuro_char: ", "'locale'", "'local'"],
    ),
    "a number for a folder": (
        f"{RELEASED}/local",
        3,
        ["released_numbers.amuro_char.local is 3", "string or null"],
    ),
    "text for a switch": (
        f"{RELEASED}/download",
        "no",
        ["released_numbers.amuro_char.download is ", '"no"', "boolean"],
    ),
    "released numbers under another name": (
        "released_numbers",
        {"amuro": PAPERS["released_numbers"]["amuro_char"]},
        ["released_numbers.amuro has no reader", "did you mean 'amuro_char'"],
    ),
    "no study": ("amuro_char", DELETE, ["'amuro_char' is missing"]),
    "a checkpoint of another form": (
        "amuro_char/checkpoints/0",
        "1000",
        ["amuro_char.checkpoints.0 is ", '"1000"', "stepN or main"],
    ),
    "a checkpoint twice": (
        "amuro_char/checkpoints",
        ["main", "main"],
        ["amuro_char.checkpoints is ", "differ"],
    ),
    "negative shots": ("amuro_char/shots", -1, ["amuro_char.shots is -1", "at least 0"]),
    "an evaluation without a metric": (
        "amuro_char/evaluations/paws/metric",
        DELETE,
        ["amuro_char.evaluations.paws: ", "'metric' is missing"],
    ),
    "measurements that are no parquet file": (
        "amuro_char/measurements",
        ["ours.csv"],
        ["amuro_char.measurements.0 is ", '"ours.csv"', "parquet"],
    ),
    "unknown fine-tuning data of a study's task": (
        "amuro_char/tasks/inference/trained_on",
        "nmli",
        ["amuro_char.tasks.inference.trained_on", "'nmli'", "amuro_char.trained_on", "'mnli'"],
    ),
    "unknown evaluation of a study's task": (
        "amuro_char/tasks/inference/in_domain/0",
        "mnli",
        ["amuro_char.tasks.inference.in_domain", "'mnli'", "amuro_char.evaluations"],
    ),
    "unknown study": (
        "tables/amuro_char/table1/study",
        "amuro_chair",
        [
            "tables.amuro_char.table1.study is 'amuro_chair'",
            "no study of released numbers",
            "did you mean 'amuro_char'?",
        ],
    ),
    "unknown released numbers": (
        f"{STUDY}/fig03/study",
        "amuro",
        ["figures.amuro_char.fig03.study is 'amuro'", "no study", "amuro_char"],
    ),
    "unknown source": (
        f"{STUDY}/fig03/source",
        "theirs",
        ["figures.amuro_char.fig03.source is ", '"theirs"', "published, ours, both", "Whose"],
    ),
    "numbers of ours where there are none": (
        f"{STUDY}/fig03/source",
        "both",
        [
            "figures.amuro_char.fig03.source is 'both'",
            "amuro_char.measurements names no file of ours",
        ],
    ),
    "a table of ours where there are none": (
        f"{TRANSFER}/source",
        "ours",
        ["tables.amuro_char.transfer.source is 'ours'", "names no file of ours"],
    ),
    "unknown evaluation in a cell": (
        f"{STUDY}/fig03/cells/0/evaluation",
        "helaswag",
        [
            "figures.amuro_char.fig03: evaluation 'helaswag'",
            "not in amuro_char.evaluations",
            "did you mean 'hellaswag'?",
        ],
    ),
    "unknown fine-tuning data in a group": (
        f"{STUDY}/fig04/groups/1/cells/0/task",
        "xsun",
        [
            "figures.amuro_char.fig04: task 'xsun'",
            "not in amuro_char.trained_on",
            "did you mean 'xsum'?",
        ],
    ),
    "the base where a fine-tuned model is asked for": (
        f"{STUDY}/fig03/cells/0/task",
        None,
        ["figures.amuro_char.fig03"],
    ),
    "unknown evaluation in a direction": (
        f"{TRANSFER}/directions/0/evaluations/0",
        "xsun",
        ["tables.amuro_char.transfer: evaluation 'xsun'", "'xsum'"],
    ),
    "unknown fine-tuning data in a direction": (
        f"{TRANSFER}/directions/1/tasks",
        ["sciq"],
        ["tables.amuro_char.transfer: task 'sciq'", "not in amuro_char.trained_on", "tulu"],
    ),
    "unknown format": (
        f"{STUDY}/fig05/prompts/1",
        "instruct",
        ["figures.amuro_char.fig05.prompts.1 is ", '"instruct"', "default, instruction"],
    ),
    "formats of a figure that has none": (
        f"{STUDY}/fig07/prompts",
        ["default"],
        ["figures.amuro_char.fig07: ", "'prompts'", "cells"],
    ),
    "no cells": (
        f"{STUDY}/fig09/cells",
        [],
        ["figures.amuro_char.fig09.cells is []", "at least 1"],
    ),
    "a group without a title": (
        "tables/amuro_char/table5/groups/0",
        {"cells": [{"task": "mnli", "evaluation": "xsum"}]},
        ["tables.amuro_char.table5.groups.0: ", "'title' is missing"],
    ),
    "unknown content": (
        "tables/overtrained/table3/content",
        "pretrain",
        ["tables.overtrained.table3.content is ", '"pretrain"', "finetuning", "pretraining"],
    ),
    "unknown recipe in a table": (
        "tables/overtrained/table4/recipes",
        ["batch64"],
        ["tables.overtrained.table4.recipe", "'batch64'", "not in recipes", "batch256"],
    ),
    "unknown set in a table": (
        "tables/overtrained/table3/models",
        "control",
        ["tables.overtrained.table3.models is 'control'", "not in model_sets", "'controlled'"],
    ),
}


@pytest.mark.parametrize(("path", "value", "parts"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line_with_key_value_and_what_is_allowed(path, value, parts):
    text = message(changed(path, value))
    missing = [part for part in parts if part not in text]
    assert not missing, f"{text!r} lacks {missing}"


def test_numbers_of_ours_may_be_shown_once_there_are_some():
    config = changed(f"{STUDY}/fig03/source", "both")
    config["amuro_char"]["measurements"] = ["results/measurements/ours.parquet"]
    checked(config)


def test_studies_are_sections_with_released_numbers_that_the_library_reads():
    from overtrain.config.check import STUDIES
    from overtrain.studies.amuro_char import FILES

    for study in STUDIES:
        assert study in PAPERS and study in PAPERS["released_numbers"]
    assert set(PAPERS["released_numbers"]["amuro_char"]["files"]) == set(FILES)


def test_a_revision_of_a_stand_in_is_a_checkpoint_that_is_trained():
    config = changed("model_sets/released_1b", ["OLMo-10K-hub"])
    config["models"]["OLMo-10K-hub"]["hub"]["checkpoints"]["0.84M"]["revision"] = "0.85M"
    text = message(config)
    assert "models.OLMo-10K-hub.hub.checkpoints.0.84M.revision is '0.85M'" in text
    assert "no checkpoint of OLMo-10K; did you mean '0.84M'?" in text
