"""The rules of the workflow, as their files say them."""

from pathlib import Path


def rules_of(root: Path) -> list:
    """Snakemake's rules of the workflow in `root`, at the papers' scale."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import OutputSettings, ResourceSettings

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(ResourceSettings(cores=1), snakefile=root / "Snakefile", workdir=root)
        return list(loaded._workflow.rules)
