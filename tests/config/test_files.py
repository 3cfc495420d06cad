"""Files laid over one another: what an overlay and a user's own file may say, and what is told."""

from pathlib import Path

import pytest
import yaml
from configuration import PAPERS, ROOT, catalogue_of, checked

from overtrain import PipelineError
from overtrain.config.files import check_profile, laid_over, load

DEMO = "profiles/demo/overlay.yaml"


def own(tmp_path: Path, content: object, name: str = "own.yaml") -> str:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def fault(config: dict) -> str:
    with pytest.raises(PipelineError) as caught:
        checked(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_overlay_replaces_whole_lists_and_leaves_their_neighbours():
    overlay = {"recipes": {"default": {"learning_rates": [0.1]}}, "task_sets": {"six": ["mr"]}}
    found = checked(load(ROOT, overlay).config).settings
    assert found.recipes["default"].learning_rates == [0.1]
    assert found.recipes["default"].epochs == PAPERS["recipes"]["default"]["epochs"]
    assert found.task_sets["six"] == ["mr"]
    assert found.task_sets["all"] == PAPERS["task_sets"]["all"]


def test_the_task_sets_of_the_papers_are_kept_beside_an_overlays():
    layers = load(ROOT, {"task_sets": {"six": ["mr"]}})
    assert layers.config["task_sets"]["six"] == ["mr"]
    assert layers.paper_task_sets["six"] == PAPERS["task_sets"]["six"]


NEW = {
    "models": {"OLMo-2B": PAPERS["models"]["OLMo-15M"] | {"title": "OLMo-2B"}},
    "tasks": {"mine": PAPERS["tasks"]["mr"] | {"title": "mine"}},
    "recipes": {"long": PAPERS["recipes"]["default"] | {"epochs": 40}},
    "figures": {
        "overtrained": {
            "mine": PAPERS["figures"]["overtrained"]["fig05"]
            | {"models": ["OLMo-2B"], "tasks": ["mine"], "recipe": "long"}
        }
    },
}


def test_a_file_of_ones_own_adds_whole_entries_over_the_profiles(tmp_path):
    demo = yaml.safe_load((ROOT / DEMO).read_text())
    path = own(tmp_path, NEW)
    layers = load(ROOT, demo | {"own": path}, [Path.cwd() / DEMO])
    found = checked(layers.config).settings
    assert found.scale == "demo scale"  # the profile's file still counts
    assert found.models["OLMo-2B"].title == "OLMo-2B" and found.tasks["mine"].title == "mine"
    assert found.recipes["long"].epochs == 40
    assert found.figures["overtrained"].keys() > {"mine", "fig05", "fig30"}
    assert layers.told() == (
        f"configuration: demo scale; config.yaml, studies/*.yaml, then {DEMO}, {path}"
    )


def test_later_files_of_ones_own_win(tmp_path):
    first = own(tmp_path, {"scale": "one", "evaluations": {"c4": {"tokens": 1}}}, "1.yaml")
    second = own(tmp_path, {"scale": "two"}, "2.yaml")
    config = load(ROOT, {"own": [first, second]}).config
    assert (config["scale"], config["evaluations"]["c4"]["tokens"]) == ("two", 1)


def test_the_papers_scale_is_told_too():
    assert load(ROOT, {}).told() == (
        "configuration: the papers' scale; config.yaml, studies/*.yaml"
    )
    assert load(ROOT, {"scale": "small"}).told().endswith("studies/*.yaml, then --config")


@pytest.mark.parametrize(
    ("overlay", "parts"),
    [
        ({"scal": "demo"}, ["configuration: unknown key 'scal'; did you mean 'scale'"]),
        (  # unknown and, under its right name, missing
            {"recipes": {"mine": {"epoch": 1}}},
            ["recipes.mine: unknown key 'epoch'; did you mean 'epochs'"],
        ),
        ({"recipes": {"default": {"epoch": 1}}}, ["recipes.default: ", "'epoch'", "'epochs'"]),
        # An entry is whole; a mistyped name begins one.
        (
            {"models": {"OLMo-10k": {"budgets": ["1M"]}}},
            ["models.OLMo-10k: the key 'title' is missing", "did you mean 'OLMo-10K'?"],
        ),
        (
            {"figures": {"overtrained": {"fig_07": {}}}},
            ["figures.overtrained.fig_07: the key 'plot' is missing", "fig07"],
        ),
    ],
)
def test_an_overlay_that_is_mistyped_is_one_line(overlay, parts):
    text = fault(load(ROOT, overlay).config)
    assert all(part in text for part in parts), text


def test_null_leaves_an_entry_out():
    overlay = {
        "models": {"OLMo-1B": {"hub": {"checkpoints": {"0.5T": None}}}},
        "figures": {"overtrained": {"fig03": None, "fig30": None}},
    }
    found = catalogue_of(load(ROOT, overlay).config)
    assert [point.name for point in found.checkpoints("OLMo-1B")][:2] == ["0.04T", "1.5T"]
    left = found.settings.figures["overtrained"]
    assert "fig04" in left and not {"fig03", "fig30"} & left.keys()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("models: [", ["own.yaml: not YAML"]),
        ("- 3", ["own.yaml: it must hold sections"]),
        ("scale: a\nscale: b", ["own.yaml: not YAML", "line 2: the key 'scale' stands twice"]),
        (None, ["own.yaml: No such file"]),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, content, parts):
    path = str(tmp_path / "own.yaml") if content is None else own(tmp_path, content)
    with pytest.raises(PipelineError) as caught:
        load(ROOT, {"own": path})
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts)


def test_a_key_that_a_merge_brings_may_be_said_anew(tmp_path):
    path = own(tmp_path, "a: {b: {c: &c {x: 1}, d: &d {<<: *c, x: 2}}}\ne: {<<: *d, y: 3}\n")
    assert load(ROOT, {"own": path}).config["e"] == {"x": 2, "y": 3}


def test_own_must_name_files():
    with pytest.raises(PipelineError, match="own is 3; it must name a file"):
        load(ROOT, {"own": 3})


def test_two_files_of_the_base_do_not_say_the_same(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "config.yaml").write_text("recipes: {a: {epochs: 1}}\n")
    (tmp_path / "studies/one.yaml").write_text("recipes: {a: {epochs: 2}}\n")
    with pytest.raises(PipelineError) as caught:
        load(tmp_path, {})
    assert str(caught.value) == "studies/one.yaml: recipes.a.epochs is said in another file, too"


def test_laying_over_changes_neither():
    base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert laid_over(base, over) == {"a": {"b": 1, "c": 2}}
    assert (base, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


@pytest.mark.parametrize("profile", ["profiles/demo", "profiles/evidence", "profiles/gpu", "slurm"])
def test_a_profiles_own_files_are_laid_over(profile, monkeypatch):
    monkeypatch.chdir(ROOT)
    own = (yaml.safe_load(Path(profile, "config.yaml").read_text())).get("configfile", [])
    files = [f"{profile}/{own}"] if isinstance(own, str) else own
    check_profile(["snakemake", "--profile", profile, "fig05"], files)
    check_profile(["snakemake", f"--profile={profile}"], [*files, "tests/tiny.yaml"])
    if files:
        for arguments in (["--profile", profile], [f"--profile={profile}"]):
            with pytest.raises(PipelineError) as caught:
                check_profile(["snakemake", *arguments, "--configfile", "mine.yaml"], ["mine.yaml"])
            assert files[0] in str(caught.value) and "--config own=" in str(caught.value)


def test_without_a_profile_any_file_may_be_laid_over():
    check_profile(["snakemake", "fig05"], ["mine.yaml"])
    check_profile(["snakemake", "--profile", "no/such/folder"], ["mine.yaml"])
