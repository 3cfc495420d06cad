"""Rule train_encoder: a small vision encoder, trained on scikit-learn's digits."""

from job import TorchJob
from overtrain.model import encoder
from overtrain.records.provenance import write_json

with TorchJob(snakemake) as job:
    folder = job.output.encoder
    manifest = encoder.train(job.wildcards.encoder, job.slice, folder)
    write_json(folder / "provenance.json", job.origin({"encoder": manifest["sha256"]}))
    print(f"accuracy on held-out digits: {manifest['accuracy']:.3f}")
