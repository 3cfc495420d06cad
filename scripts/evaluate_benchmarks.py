"""Rules evaluate_benchmarks(_base): a tuned run, or a checkpoint, on the suite of benchmarks."""

from job import TorchJob
from overtrain.measuring import benchmarks, harness
from overtrain.model.released import diverged

with TorchJob(snakemake) as job:
    suite = job.catalogue.suite_of(job.wildcards.model).model_dump()
    folder, model = job.input.suite, job.input.model
    manifest = benchmarks.read_manifest(folder)
    if diverged(model):
        found = benchmarks.diverged(manifest, suite)
    else:
        found = benchmarks.evaluate(model, folder, manifest, suite, job.device.type, job.gpus)
    identity = {"selection": "base"} | job.identity  # of a run, the last epoch
    job.write(harness.rows_of(found, identity, suite["shots"]))
