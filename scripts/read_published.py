"""Rule read_published: released files as measurements, and what of them is left out, and why."""

import json
from pathlib import Path

from overtrain.records import job, measurements
from overtrain.records.provenance import sha256, whole_file
from overtrain.studies import amuro_char

READERS = {"amuro_char": amuro_char.read}

with job.logged(snakemake.log[0]):
    folder = Path(snakemake.input.files)
    read = READERS[snakemake.wildcards.source]
    rows, mapping, left_out = read(folder, json.loads(snakemake.params.config))
    print(f"{len(rows)} measurements; {len(left_out)} rows left out")
    for table, path in ((mapping, snakemake.output.mapping), (left_out, snakemake.output.left_out)):
        with whole_file(Path(path)) as temporary:
            table.to_csv(temporary, index=False)
    origin = job.origin(
        snakemake, {path.name: sha256(path) for path in sorted(folder.glob("*.csv"))}
    )
    measurements.write(rows, Path(snakemake.output.measurements), origin)
