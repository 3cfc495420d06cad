"""Rules evaluate_benchmarks(_base): a tuned run, or a checkpoint, on the suite of benchmarks."""

from pathlib import Path

from overtrain.measuring import benchmarks, harness, tuned
from overtrain.records import job, measurements

with job.logged(snakemake.log[0]):
    own = tuned.Measured(snakemake)
    suite, folder = own.catalogue.suite.model_dump(), Path(snakemake.input.suite)
    manifest = benchmarks.read_manifest(folder)
    if tuned.diverged(own.model):
        found = benchmarks.diverged(manifest, suite)
    else:
        found = benchmarks.evaluate(own.model, folder, manifest, suite, own.device, own.gpus)
    rows = harness.rows_of(found, own.identity, suite["shots"])
    origin = own.origin({"suite": manifest["sha256"]})
    measurements.write(rows, Path(snakemake.output.measurements), origin)
