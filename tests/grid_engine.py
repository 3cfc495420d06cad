"""A real Grid Engine on this machine: one node, eight slots, two GPUs that are only counted.

Debian's, as root, on ports of its own. All of it is in one folder; what the packages set up in
/var/lib/gridengine is not used.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

PACKAGES = ["gridengine-master", "gridengine-exec", "gridengine-client"]
INSTALLED = Path("/var/lib/gridengine")
SHARED = Path("/usr/share/gridengine")
TOOLS = Path("/usr/lib/gridengine")

NODE = """
hostname localhost
load_scaling NONE
complex_values gpu=2
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
"""
LIMITS = ["rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem"]
QUEUE = f"""
qname main
hostlist localhost
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH
ckpt_list NONE
pe_list smp
rerun FALSE
slots 8
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode unix_behavior
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:60
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
{"".join(f"{kind}_{limit} INFINITY{chr(10)}" for limit in LIMITS for kind in "sh")}"""
SMALL = {  # in place of the packages' own: root may run jobs, and news travels in a second
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:02",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:15 "
    "accounting_flush_time=00:00:01 joblog=false sharelog=00:00:00",
}
FAST = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}


def lacks() -> str | None:
    """Why there can be none here; None if there can."""
    if os.geteuid() != 0:
        return "starts Grid Engine's daemons, so it needs root"
    if shutil.which("sge_qmaster") is None or shutil.which("sge_execd") is None:
        return f"needs Grid Engine: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    return None


class GridEngine:
    """Runs between `start` and `stop`; `environment` is what its commands need."""

    def __init__(self, folder: Path):
        self.folder, self.root, self.spool = folder, folder / "root", folder / "spool"
        ports = dict(zip(("SGE_QMASTER_PORT", "SGE_EXECD_PORT"), free_ports(2), strict=True))
        self.environment = os.environ | ports | {"SGE_ROOT": str(self.root), "SGE_CELL": "default"}

    def ask(self, *line: str | Path) -> str:
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        self.lay_out()
        self.ask("sge_qmaster")
        wait_for(lambda: self.answers("qconf", "-sm"), "the master does not answer")
        self.ask("qconf", "-as", "localhost")
        complexes = self.ask("qconf", "-sc") + "gpu gpu INT <= YES JOB 0 0\n"
        self.ask("qconf", "-Mc", self.file("complexes", complexes))
        self.ask("qconf", "-Ae", self.file("node", NODE))
        self.ask("qconf", "-Ap", SHARED / "util/resources/pe/smp")
        self.ask("qconf", "-Aq", self.file("queue", QUEUE))
        scheduler = replaced(self.ask("qconf", "-ssconf"), FAST)
        self.ask("qconf", "-Msconf", self.file("scheduler", scheduler))
        self.ask("sge_execd")
        wait_for(lambda: "lx-" in self.ask("qhost", "-h", "localhost"), "the node does not answer")

    def lay_out(self) -> None:
        common, database = self.root / "default" / "common", self.spool / "db"
        for place in (
            common,
            database,
            self.spool / "qmaster" / "job_scripts",
            self.spool / "execd",
        ):
            place.mkdir(parents=True)
        for name in ("bin", "lib", "utilbin", "util"):
            (self.root / name).symlink_to(INSTALLED / name)
        (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
        (common / "act_qmaster").write_text("localhost\n")
        bootstrap = (SHARED / "default-bootstrap").read_text()
        places = {"/var/spool/gridengine/spooldb": database, "/var/spool/gridengine": self.spool}
        for old, new in places.items():
            bootstrap = bootstrap.replace(old, str(new))
        (common / "bootstrap").write_text(replaced(bootstrap, {"admin_user": "none"}))
        configuration = (SHARED / "default-configuration").read_text()
        configuration = configuration.replace("/var/spool/gridengine", str(self.spool))
        self.ask(TOOLS / "spoolinit", "berkeleydb", "libspoolb", database, "init")
        given = {
            "configuration": self.file("configuration", replaced(configuration, SMALL)),
            "complexes": SHARED / "util/resources/centry",
            "usersets": SHARED / "util/resources/usersets",
            "managers": "root",
        }
        for kind, value in given.items():
            self.ask(TOOLS / "spooldefaults", kind, value)

    def stop(self) -> None:
        for line in (["qdel", "-f", "-u", "root"], ["qconf", "-ke", "localhost"], ["qconf", "-km"]):
            subprocess.run(line, env=self.environment, capture_output=True)
        wait_for(lambda: not self.answers("qconf", "-sm"), "the master does not end")

    def answers(self, *line: str) -> bool:
        return subprocess.run(line, env=self.environment, capture_output=True).returncode == 0

    def jobs(self) -> dict[str, str]:
        """Id by name of the jobs that wait or run."""
        rows = [line.split() for line in self.ask("qstat", "-xml").split("<job_list")[1:]]
        return {cut(row, "JB_name"): cut(row, "JB_job_number") for row in map(" ".join, rows)}

    def accounts(self) -> list[dict[str, str]]:
        """What is known of each job that has ended: qacct's lines."""
        text = self.ask("qacct", "-j").split("Total System Usage")[0]
        found = []
        for part in text.split("=" * 62)[1:]:
            lines = (line.split(maxsplit=1) for line in part.strip().splitlines())
            found.append({line[0]: line[1].strip() if line[1:] else "" for line in lines})
        return found

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text.lstrip())
        return path


def cut(text: str, tag: str) -> str:
    return text.split(f"<{tag}>")[1].split("<")[0]


def replaced(text: str, values: dict[str, str]) -> str:
    """Lines `name value` with other values."""
    lines = []
    for line in text.splitlines():
        name = line.split(maxsplit=1)[0] if line.split() else ""
        lines.append(f"{name} {values[name]}" if name in values else line)
    return "\n".join(lines) + "\n"


def free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    with closing(sockets[0]), closing(sockets[-1]):
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in sockets]


def wait_for(happened: Callable[[], bool], otherwise: str, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, otherwise
        time.sleep(0.3)
