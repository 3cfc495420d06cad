"""A real Slurm on this machine: two nodes, each with two GPUs that compute nothing.

Debian's Slurm, as root. All of it is in one folder, but for two links in /etc/slurm that are
removed at the end: Snakemake's plugin drops SLURM_CONF, so that its jobs know no other place. The
daemons are children of this process and die with it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
SITE = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf")
NODES = ("n1", "n2")
NAME = "overtrain-slurm"  # in the name of the folder of all of it
MORTAL = ("setpriv", "--pdeathsig", "KILL")  # before a command: it dies with the tests
# GPUs must be devices to register; these are copies of /dev/null.
NULL = os.makedev(1, 3)

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=86400
KillWait=5
SlurmdTimeout=15
DefMemPerCPU=256
NodeName=DEFAULT CPUs=2 RealMemory=10000 Gres=gpu:h100:2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GPUS = """
AutoDetect=off
NodeName=n1 Name=gpu Type=h100 File={folder}/gpu[0-1]
NodeName=n2 Name=gpu Type=h100 File={folder}/gpu[2-3]
"""


@dataclass(frozen=True)
class Queued:
    """A job that Slurm has not ended."""

    id: str
    run: str  # the run's id, which the plugin makes the job's name
    state: str
    comment: str  # rule and wildcards
    node: str


@dataclass
class Cluster:
    """Daemons in `folder`; a context that stops them and all jobs."""

    folder: Path
    daemons: dict[str, psutil.Popen] = field(default_factory=dict)

    def __enter__(self) -> Cluster:
        install()
        configure(self.folder)
        try:
            for name in FILES:
                (SITE / name).symlink_to(self.folder / name)
            self.start("munged", *munge(self.folder))
            until(lambda: (self.folder / "munge/socket").is_socket(), 20, "munged")
            self.start("slurmctld", "slurmctld", "-D", "-c")
            for node in NODES:
                self.start_node(node)
            until(lambda: set(self.states().values()) == {"idle"}, 60, "both nodes idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if "slurmctld" in self.daemons:
                self.clear()
        finally:
            for daemon in reversed(self.daemons.values()):
                daemon.terminate()
            _, alive = psutil.wait_procs(self.daemons.values(), 20)
            for daemon in alive:
                daemon.kill()
            for name in FILES:
                (SITE / name).unlink(missing_ok=True)

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("a") as file:
            self.daemons[name] = psutil.Popen([*MORTAL, *command], stdout=file, stderr=file)

    def start_node(self, node: str) -> None:
        self.start(node, "slurmd", "-D", "-N", node)

    def states(self) -> dict[str, str]:
        """What the controller says of each node; nothing while it does not answer."""
        line = ["sinfo", "-N", "-h", "-o", "%N %T"]
        told = subprocess.run(line, capture_output=True, text=True, timeout=60).stdout
        return dict(line.split() for line in told.splitlines())

    def jobs(self, *options: str) -> list[Queued]:
        told = slurm("squeue", "--noheader", "--format=%i|%j|%T|%k|%N", *options)
        return [Queued(*line.split("|")) for line in told.splitlines()]

    def clear(self) -> None:
        """End all jobs, and wait until they are gone."""
        slurm("scancel", "--full", "--user=root")
        until(lambda: not self.jobs(), 60, "no job left")


def install() -> None:
    """Debian's packages; RuntimeError where this machine is not one to put a Slurm on."""
    if os.geteuid() != 0:
        raise RuntimeError("a Slurm of one's own needs root")
    for path in (SITE / name for name in FILES):
        ours = path.is_symlink() and NAME in path.readlink().parent.name  # a killed test's
        if path.exists() and not ours:
            raise RuntimeError(f"{path} is there: a machine with a Slurm is not for tests")
        path.unlink(missing_ok=True)
    if all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        return
    quiet = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "check": True}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    wanted = ["--yes", "-qq", "--no-install-recommends", *PACKAGES]
    subprocess.run(["apt-get", "install", *wanted], stdout=subprocess.DEVNULL, **quiet)


def configure(folder: Path) -> None:
    folder.chmod(0o755)  # or munged warns
    for name in ("state", "munge", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    for n in range(4):
        os.mknod(folder / f"gpu{n}", 0o666 | stat.S_IFCHR, NULL)
    host = socket.gethostname().split(".")[0]
    values = {"folder": folder, "host": host, "ports": free_ports(3)}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    (folder / "gres.conf").write_text(GPUS.format(**values))


def munge(folder: Path) -> list[str]:
    """A munged of its own: Slurm signs its messages with it."""
    own = folder / "munge"
    (own / "key").write_bytes(os.urandom(128))
    (own / "key").chmod(0o400)
    files = {"socket": "socket", "key-file": "key", "log-file": "log"}
    files |= {"pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={own / name}" for option, name in files.items()]
    return ["munged", "--foreground", "--force", *options]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()


def slurm(*line: str) -> str:
    """What a command of Slurm prints."""
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)}: {done.stderr}")
    return done.stdout


def until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Wait; an AssertionError that says what for."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for: {what}")
        time.sleep(0.2)


def processes_in(folder: Path) -> Iterable[psutil.Process]:
    """Those that work in `folder` or below it."""
    for process in psutil.process_iter():
        try:
            zombie = process.status() == psutil.STATUS_ZOMBIE
            if not zombie and Path(process.cwd()).is_relative_to(folder):
                yield process
        except (psutil.Error, OSError):
            continue
