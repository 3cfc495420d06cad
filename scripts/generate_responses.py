"""Rule generate_responses: what one instruction-tuned run answers to the prompts."""

from job import TorchJob
from overtrain.data import prompts
from overtrain.measuring import generate, responses
from overtrain.model.released import diverged

with TorchJob(snakemake) as job:
    config, model = job.slice, job.input.model
    texts, outputs = [row["instruction"] for row in prompts.read(job.input.prompts)], None
    if diverged(model):
        print("the run diverged: no responses")
    else:
        batch_size = job.catalogue.settings.evaluations.alpaca.batch_size
        how = generate.Decoding(config["max_new_tokens"], batch_size, config["backend"])
        outputs = generate.respond(model, texts, how, job.device)
    responses.write(texts, outputs, job.output.responses, job.origin())
