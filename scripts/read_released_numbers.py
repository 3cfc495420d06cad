"""Rule read_released_numbers: released files as measurements, what is left out of them, and why."""

from job import Job
from overtrain.records.provenance import sha256, whole_file
from overtrain.studies import amuro_char

READERS = {"amuro_char": amuro_char.read}

with Job(snakemake) as job:
    folder, read = job.input.files, READERS[job.wildcards.source]
    rows, mapping, left_out = read(folder, job.slice)
    print(f"{len(rows)} measurements; {len(left_out)} rows left out")
    for table, path in ((mapping, job.output.mapping), (left_out, job.output.left_out)):
        with whole_file(path) as temporary:
            table.to_csv(temporary, index=False)
    job.write(rows, {path.name: sha256(path) for path in sorted(folder.glob("*.csv"))})
