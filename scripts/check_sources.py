"""Rule check_sources: which models and data sets the hub has, at which commit, and how large."""

import os
from pathlib import Path

from job import Job
from overtrain.figures.targets import Targets
from overtrain.hub import sources
from overtrain.records.provenance import whole_file, write_json

terminal = os.fdopen(os.dup(2), "w")  # the log takes the streams, and a person should see this
with Job(snakemake) as job:
    catalogue = job.catalogue
    found = sources.check(Targets(catalogue).sources, Path(catalogue.settings.sources.pins))
    report = job.output.report
    with whole_file(report) as temporary:
        temporary.write_text(sources.table(found, report.parent))
    origin = job.origin({})
    write_json(job.output.answers, {"provenance": origin, "sources": found})
    for stream in (None, terminal):
        told = (f"{len(found)} sources asked for, see {report}", *sources.faults(found))
        print(*told, sep="\n", file=stream)
