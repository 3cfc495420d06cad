"""The demo's warm start: a script that is handed over behaves as one that Python runs itself."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

WARM = Path(__file__).parents[2] / "tools/warm"
JOBS = {
    "modules": "import sys; print('torch' in sys.modules, __name__, __file__)",
    "place": "import os; print(os.getcwd(), os.environ['A_WORD'], open(0).read())",
    "status": "import sys; print('out'); sys.exit(7)",
    "message": "import sys; sys.exit('error: one line')",
    "fault": "raise ValueError('a fault')",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "large": "import os; print(len(os.environ['LONG1']))",
    "threads": "import threadpoolctl, numpy, scipy.linalg, torch; "
    "print(sorted({p['num_threads'] for p in threadpoolctl.threadpool_info()}))",
    "draws": "import torch; print(torch.rand(2, generator=torch.Generator().manual_seed(5)))",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Runs each job as Snakemake does, then stops one half-way: what they printed, and how they ended.
DRIVER = """
import json, os, subprocess, sys, time
from pathlib import Path

long = {f"LONG{i}": "x" * 120000 for i in range(2)}  # more than a packet takes
found = {}
for path in sorted(Path(".snakemake/scripts").glob("*.py")):
    done = subprocess.run(
        [sys.executable, str(path.resolve())],
        input="a text",
        env=os.environ | {"A_WORD": "word"} | (long if path.stem == "large" else {}),
        capture_output=True,
        text=True,
    )
    found[path.stem] = done.returncode, done.stdout, done.stderr
Path("slow.py").write_text(
    "import os, time; from pathlib import Path\\n"
    "Path('pid').write_text(str(os.getpid())); time.sleep(60)"
)
slow = Path("slow.py").rename(".snakemake/scripts/slow.py")
waiting = subprocess.Popen([sys.executable, str(slow.resolve())])
while not Path("pid").exists() or not Path("pid").read_text():
    time.sleep(0.05)
waiting.kill()
waiting.wait()
pid, end = int(Path("pid").read_text()), time.monotonic() + 10
while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
    time.sleep(0.05)
found["slow"] = Path(f"/proc/{pid}").exists(), pid == waiting.pid, ""
Path(sys.argv[1]).write_text(json.dumps(found))
sys.exit(5)
"""


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """What each job printed and how it ended, cold and handed over."""
    folder = tmp_path_factory.mktemp("jobs")
    scripts = folder / ".snakemake/scripts"
    scripts.mkdir(parents=True)
    for name, text in JOBS.items():
        (scripts / f"{name}.py").write_text(text)
    (folder / "driver.py").write_text(DRIVER)
    found = {}
    for name, server in (("cold", []), ("warm", [sys.executable, str(WARM)])):
        for leftover in (folder / "pid", scripts / "slow.py"):
            leftover.unlink(missing_ok=True)
        command = [*server, sys.executable, "driver.py", f"{name}.json"]
        environment = os.environ | dict.fromkeys(THREADS, "1")
        done = subprocess.run(command, cwd=folder, env=environment)
        assert done.returncode == 5  # the command's own status
        found[name] = json.loads((folder / f"{name}.json").read_text())
    return found


@pytest.mark.slow
def test_a_job_that_is_handed_over_ends_and_prints_as_on_its_own(driven):
    for name in ("place", "status", "message", "large", "threads", "draws"):
        assert driven["warm"][name] == driven["cold"][name], name
    assert driven["warm"]["message"] == [1, "", "error: one line\n"]
    assert driven["warm"]["status"][0] == 7
    for way in ("cold", "warm"):
        status, _, errors = driven[way]["fault"]
        assert status == 1 and errors.endswith("ValueError: a fault\n")
        assert driven[way]["killed"][0] != 0
    cold, warm = (driven[way]["modules"][1].split() for way in ("cold", "warm"))
    assert (cold[0], warm[0]) == ("False", "True") and warm[1:] == cold[1:]


@pytest.mark.slow
def test_stopping_what_waits_for_a_job_stops_the_job(driven):
    assert driven["warm"]["slow"] == [False, False, ""]  # gone, and it was another process
    assert driven["cold"]["slow"] == [False, True, ""]


@pytest.mark.slow
def test_stopping_the_server_stops_its_command_and_leaves_no_socket(tmp_path):
    script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    command = [sys.executable, str(WARM), sys.executable, "-c", script]
    folder = tmp_path / "t"
    folder.mkdir()
    server = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"TMPDIR": str(folder)})
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.1)
    server.terminate()
    assert server.wait(10) != 0
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
    assert not list(folder.iterdir())


def test_a_script_runs_itself_where_nobody_takes_it(tmp_path):
    script = tmp_path / ".snakemake/scripts/job.py"
    script.parent.mkdir(parents=True)
    script.write_text("print('here')")
    environment = os.environ | {
        "PYTHONPATH": str(WARM),
        "OVERTRAIN_WARM": f"{sys.prefix}:{tmp_path}/none",
    }
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")


SCRIPTS = WARM.parents[1] / "scripts"
IMPORTING = """
import ast, importlib, json, runpy, sys
from pathlib import Path

warm, scripts = map(Path, sys.argv[1:])
sys.path.insert(0, str(scripts))
for module in runpy.run_path(str(warm / "__main__.py"))["PRELOADED"]:
    importlib.import_module(module)
before, late = set(sys.modules), {}
for script in sorted(scripts.glob("*.py")):
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            exec(ast.unparse(node), {})
    own = {name.split(".")[0] for name in set(sys.modules) - before}
    before |= set(sys.modules)
    if found := sorted(own - set(sys.stdlib_module_names) - {"overtrain", "job"}):
        late[script.name] = found
print(json.dumps(late))
"""


def test_the_libraries_that_scripts_import_are_there_when_they_start():
    command = [sys.executable, "-c", IMPORTING, str(WARM), str(SCRIPTS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
