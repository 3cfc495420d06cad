"""The rules of the workflow, as their files say them."""

from pathlib import Path


def rules_of(root: Path, *configfiles: Path) -> list:
    """Snakemake's rules of the workflow in `root`, at the papers' scale or with files over it."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

    settings = (ResourceSettings(cores=1), ConfigSettings(configfiles=list(configfiles)))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(*settings, snakefile=root / "Snakefile", workdir=root)
        return list(loaded._workflow.rules)
