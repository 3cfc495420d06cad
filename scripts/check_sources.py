"""Rule check_sources: which models and data sets the hub has, at which commit, and how large."""

import os
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.hub import sources
from overtrain.records import job
from overtrain.records.provenance import whole_file, write_json

terminal = os.fdopen(os.dup(2), "w")  # the log takes the streams, and a person should see this
with job.logged(snakemake.log[0]):
    catalogue = catalogue_of(snakemake.config)
    found = sources.check(catalogue.sources, Path(catalogue.settings.sources.pins))
    report = Path(snakemake.output.report)
    with whole_file(report) as temporary:
        temporary.write_text(sources.table(found, report.parent))
    origin = job.origin(snakemake, {})
    write_json(Path(snakemake.output.answers), {"provenance": origin, "sources": found})
    for stream in (None, terminal):
        told = (f"{len(found)} sources asked for, see {report}", *sources.faults(found))
        print(*told, sep="\n", file=stream)
