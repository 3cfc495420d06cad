"""Each conda environment holds what its rules' scripts import, and no more, at the lock's versions.

What a rule runs in may follow a backend: the papers' scale has vLLM, the demo transformers. conda
itself is not run (test_environments_built.py builds what pip installs): what a script needs is read
from the code. Starting from the script, a definition of the library (a function, a class, a method)
counts once its name is used by code that counts, with the imports inside it; of a module that is
imported, the code outside definitions.
"""

import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from rule_files import rules_of
from snakemake.cli import parse_args

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
OURS = {"overtrain", "job"}  # modules in it
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# (distribution, called name): what the call imports although the distribution does not require it.
INDIRECT = {
    ("lm-eval", "get_model"): {"accelerate"},  # of transformers
    ("pandas", "to_markdown"): {"tabulate"},
    ("transformers", "AutoTokenizer"): {"protobuf", "sentencepiece"},  # of a tokenizer.model
}
BARE = {"python", "pip"}  # of every environment
COMPILING = {"train", "vllm"}  # those of torch.compile
# What vLLM's own pins bring instead of the lock's: another transformers, an older numpy for numba.
OF_VLLM = {"numpy", "transformers", "vllm"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    """name==version lines to versions by normal name."""
    split = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {normal(name): version.strip() for name, version in split}


def locked(name: str) -> dict[str, str]:
    return pins((ROOT / "envs" / f"{name}.txt").read_text().splitlines())


LOCK = locked("lock")


def environment(name: str) -> dict[str, str]:
    """Pinned distributions of envs/{name}.yaml."""
    found = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())["dependencies"]
    plain = {d.split("=")[0] for d in found if isinstance(d, str)}
    assert plain == BARE | ({"c-compiler"} if name in COMPILING else set())
    return pins(next(d["pip"] for d in found if isinstance(d, dict)))


@cache
def rules() -> dict[str, tuple[str, set[str]]]:
    """Of every rule that has one: its script, its environments at the papers' and demo's scale."""
    found: dict[str, tuple[str, set[str]]] = {}
    for overlay in ([], [ROOT / "profiles/demo/overlay.yaml"]):
        for rule in rules_of(ROOT, *overlay):
            if rule.script:
                assert rule.conda_env, f"rule {rule.name} has a script and no environment"
                _, own = found.setdefault(rule.name, (Path(rule.script).name, set()))
                own.add(Path(str(rule.conda_env)).stem)
    return found


# --- what a script needs --------------------------------------------------------------------------


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules_of(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Full names that an import statement may load; attributes among them are no module's name."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}


def file_of(module: str) -> Path | None:
    """Our file that holds `module`."""
    if module.split(".")[0] not in OURS:
        return None
    path = SCRIPTS.joinpath(*module.split("."))
    return next(filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py")), None)


@cache
def distribution_of() -> dict[str, str]:
    """Distribution by import name."""
    return {name: normal(d[0]) for name, d in metadata.packages_distributions().items()}


@cache
def needs(script: Path) -> set[str]:
    """Distributions that running `script` imports."""
    imported: set[str] = set()  # first parts of third-party modules
    ours: dict[Path, set[Path]] = {}  # our modules that code that counts imports, by its file
    names: dict[Path, set[str]] = {}  # identifiers that it uses, by its file
    attributes: set[str] = set()  # those after a dot, in all files
    waiting: list[tuple[Path, ast.AST, bool]] = []  # not used yet; whether of a class

    def count(node: ast.AST, path: Path) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return  # for readers only
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in modules_of(node):
                if own := file_of(module):
                    take(own)
                    ours[path].add(own)
                elif module.split(".")[0] not in sys.stdlib_module_names | OURS:
                    imported.add(module.split(".")[0])
            return
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "find_spec":
            name = ast.literal_eval(node.args[0])
            if distribution_of().get(name) in LOCK:  # its files are read; others are optional
                imported.add(name)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names[path].add(node.id)
        elif isinstance(node, ast.Attribute):
            names[path].add(node.attr)
            attributes.add(node.attr)
        for child in ast.iter_child_nodes(node):
            method = isinstance(node, ast.ClassDef) and isinstance(child, DEFINITIONS)
            if method and not child.name.startswith("__"):
                waiting.append((path, child, True))
            else:
                count(child, path)

    def take(path: Path) -> None:
        """A module is imported."""
        if path in ours:
            return
        ours[path], names[path] = set(), set()
        if path.name == "__init__.py" and "iter_modules(" in path.read_text():  # takes all in it
            for other in path.parent.rglob("*.py"):
                take(other)
                names[other] |= {n.name for n in tree(other).body if isinstance(n, ast.ClassDef)}
        for node in tree(path).body:
            if isinstance(node, DEFINITIONS):
                waiting.append((path, node, False))
            else:
                count(node, path)

    def used(path: Path, definition: ast.AST, method: bool) -> bool:
        """A method by code of any file, others by code of their own or that imports it."""
        if method:
            return definition.name in attributes
        by = (file for file in ours if file == path or path in ours[file])
        return any(definition.name in names[file] for file in by)

    take(script)
    while found := [entry for entry in waiting if used(*entry)]:
        for entry in found:
            waiting.remove(entry)
            count(entry[1], entry[0])
    distributions = {distribution_of()[name] for name in imported}
    used_names = attributes.union(*names.values())
    indirect = (
        to for (of, name), to in INDIRECT.items() if of in distributions and name in used_names
    )
    return distributions.union(*indirect)


def needs_of(environment_name: str) -> dict[str, set[str]]:
    return {
        rule: needs(ROOT / "scripts" / script)
        for rule, (script, own) in rules().items()
        if environment_name in own
    }


ENVIRONMENTS = sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))


def test_the_analysis_follows_calls_and_imports_inside_functions():
    found = {rule: needs(ROOT / "scripts" / script) for rule, (script, _) in rules().items()}
    assert {"datasets", "huggingface-hub"} <= found["tokenise"] & found["prepare_task"]
    assert not {"datasets", "huggingface-hub"} & found["build_corpus"]
    assert not {"datasets", "huggingface-hub"} & (found["pretrain"] | found["finetune"])
    assert "torch" in found["pretrain"] & found["evaluate_id"] & found["perturb_gaussian"]
    assert "safetensors" in found["finetune"]
    assert {"alpaca-eval", "openai", "rouge-score"} <= found["evaluate_alpaca"]
    assert "tabulate" in found["table"] and "tabulate" not in found["figure"]
    assert "seaborn" in found["figure"] and "seaborn" not in found["table"]


def test_every_rule_with_a_script_is_found():
    scripts = {path.name for path in (ROOT / "scripts").glob("*.py")}
    assert {script for script, _ in rules().values()} == scripts - {"job.py", "main.py"}
    assert set().union(*(own for _, own in rules().values())) == set(ENVIRONMENTS)


def test_the_environment_follows_the_backend():
    found = {rule: own for rule, (_, own) in rules().items()}
    for rule in ("generate_responses", "evaluate_benchmarks", "evaluate_benchmarks_base"):
        assert found[rule] == {"vllm", "benchmarks"}
    for rule in ("evaluate_task", "evaluate_task_base"):
        assert found[rule] == {"vllm", "benchmarks"}
    assert found["evaluate_alpaca"] == {"vllm", "judge"}
    assert found["prepare_benchmarks"] == {"benchmarks"}  # on the head node, without a GPU


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_lacks_nothing_that_its_rules_import(name):
    own = set(environment(name))
    lacking = {rule: needed - own for rule, needed in needs_of(name).items() if needed - own}
    assert not lacking, f"envs/{name}.yaml lacks {lacking}"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_carries_nothing_that_none_of_its_rules_imports(name):
    carried = set(environment(name)) - set().union(*needs_of(name).values()) - {"vllm"}
    assert not carried, f"envs/{name}.yaml carries {sorted(carried)}, which none of its rules needs"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_versions_are_the_locks(name):
    own = environment(name)
    other = {
        distribution for distribution, version in own.items() if LOCK.get(distribution) != version
    }
    assert other == (OF_VLLM if name == "vllm" else set())


def test_the_lock_of_gpu_nodes_adds_what_torch_brings_there_and_changes_nothing():
    cuda = locked("lock-cuda")
    assert {distribution: cuda[distribution] for distribution in LOCK} == LOCK
    more = cuda.keys() - LOCK.keys()
    assert {name.split("-")[0] for name in more} == {"cuda", "nvidia", "triton"}
    assert {"nvidia-nccl-cu13", "triton"} <= more and "setuptools" in cuda


def test_the_lock_of_vllm_has_the_versions_of_its_environment():
    own = environment("vllm")
    assert own.items() <= locked("lock-vllm").items()


def test_drawing_needs_no_torch():
    assert "torch" not in environment("figures")


def test_the_lock_is_what_is_installed_and_holds_all_that_is_required():
    installed = {distribution: metadata.version(distribution) for distribution in LOCK}
    assert {d: v.split("+")[0] for d, v in installed.items()} == LOCK
    lines = (ROOT / "envs" / "requirements.txt").read_text().splitlines()
    required = {normal(re.split("[ =]", line)[0]) for line in lines if line and line[0] != "#"}
    assert required <= set(LOCK)
    used = set().union(*(needs(ROOT / "scripts" / script) for script, _ in rules().values()))
    assert used <= required


def test_the_containers_script_can_be_read_and_names_what_is_there():
    text = (ROOT / "envs" / "overtrain.def").read_text()
    head, *parts = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert re.findall("^(Bootstrap|From): (.+)$", head, re.MULTILINE)[0] == ("Bootstrap", "docker")
    assert set(sections) == {"files", "post", "environment", "runscript", "help"}
    *copied, _ = sections["files"].split()
    assert all((ROOT / name).exists() for name in copied)
    needed = {"Snakefile", "config.yaml", "rules", "scripts", "studies", "envs", "profiles"}
    assert needed <= set(copied)
    for name in ("post", "environment", "runscript"):
        subprocess.run(["sh", "-n"], input=sections[name], text=True, check=True)
    lock = re.search(r"pip install -r (\S+)", sections["post"])
    assert lock and (ROOT / lock[1]).exists()
    commands = re.findall(r"^ +snakemake (.*)$", sections["post"], re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        _, options = parse_args(shlex.split(command))
        assert options.conda_create_envs_only
        assert options.targets == ["all_figures", "all_tables"]
        assert all(path.exists() for path in map(ROOT.joinpath, options.configfile))
