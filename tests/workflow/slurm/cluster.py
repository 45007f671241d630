"""A SLURM of this machine alone, for the test: a controller and two nodes, without root services.

Two daemons with names and ports of their own play two machines. There is no munge, no database,
no cgroup: every local caller is trusted, memory is scheduled but not enforced, and GPUs are
pretended by character devices. Everything listens on 127.0.0.1 and lies in one folder.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
from running import ROOT, command

NODES = ("n1", "n2")
TOOLS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct")
DAEMONS = "/usr/sbin"
FIELDS = {
    "id": "JobArrayID",
    "comment": "Comment",
    "state": "State",
    "memory": "MinMemory",
    "limit": "TimeLimit",
    "cpus": "NumCPUs",
    "partition": "Partition",
    "nodes": "NumNodes",
    "gpus": "tres-per-job",
    "reason": "ReasonList",
    "folder": "WorkDir",
}
WIDTH = 200

CONFIGURATION = """\
ClusterName=regaze
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=100000
ReturnToService=2
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=600
KillWait=20
MailProg=/bin/true
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} {size} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} {size} State=UNKNOWN
PartitionName=DEFAULT Nodes=n1,n2 MaxTime=60 DefMemPerCPU=500 State=UP PreemptMode=OFF
PartitionName=cpu Default=YES
PartitionName=gpu
PartitionName=short MaxTime=10
PartitionName=cancelled PreemptMode=CANCEL
PartitionName=requeued PreemptMode=REQUEUE
PartitionName=urgent PriorityTier=2
"""


def missing() -> list[str]:
    """What this machine lacks for the test, each with the way to get it."""
    path = f"{os.environ['PATH']}:{DAEMONS}"
    absent = [name for name in ("slurmctld", "slurmd", *TOOLS) if not shutil.which(name, path=path)]
    lines = [f"{', '.join(absent)} (apt-get install slurm-wlm)"] if absent else []
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        lines.append("snakemake-executor-plugin-slurm (make slurm)")
    return lines


class Cluster:
    """Starts with ``up``, ends with ``down``; ``environment`` is for what uses it."""

    def __init__(self, folder: Path):
        self.folder = folder
        # While this file is there, SLURM's tools fail as they do when the controller is busy.
        self.silent = folder / "silent"
        # Jobs lose SLURM_CONF but keep PATH: the plugin clears what begins with SLURM_.
        self.environment = os.environ | {
            "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLURM_CONF": f"{folder}/slurm.conf",
            "OMP_NUM_THREADS": "1",
        }
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            self.environment.pop(name, None)

    def up(self) -> None:
        """Write the configuration, start the daemons, wait until both nodes are idle."""
        for name in ("bin", "state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        user = psutil.Process().username()
        text = CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            user=user,
            folder=self.folder,
            ports=_free_ports(3),
            size="CPUs=4 RealMemory=16000 Gres=gpu:2",
        )
        (self.folder / "slurm.conf").write_text(text)
        gpus = "AutoDetect=off\nName=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
        (self.folder / "gres.conf").write_text(gpus)
        for name in TOOLS:
            tool = self.folder / "bin" / name
            real = shutil.which(name)
            tool.write_text(
                f"#!/bin/sh\n[ ! -e {self.folder}/silent ] || exit 1\n"
                f'SLURM_CONF={self.folder}/slurm.conf exec {real} "$@"\n'
            )
            tool.chmod(0o755)
        self.run(f"{DAEMONS}/slurmctld", "-c")
        for node in NODES:
            self.run(f"{DAEMONS}/slurmd", "-N", node)
        for _ in range(240):
            if self.run("sinfo", "-h", "-p", "cpu", "-o", "%D %T").strip() == "2 idle":
                return
            time.sleep(0.25)
        raise RuntimeError((self.folder / "slurmctld.log").read_text()[-2000:])

    def run(self, *command) -> str:
        """Output of a command that uses the cluster."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def jobs(self) -> list[dict]:
        """All jobs since the start, with what they asked for, by submission."""
        # Of fixed widths, because -o cannot tell the GPUs of a job.
        asked = ",".join(f"{field}:{WIDTH}" for field in FIELDS.values())
        text = self.run("squeue", "-h", "--states=all", "-r", "-S", "i", "-O", asked)
        rows = [
            [line[start : start + WIDTH].strip() for start in range(0, WIDTH * len(FIELDS), WIDTH)]
            for line in text.splitlines()
        ]
        return [dict(zip(FIELDS, row, strict=True)) for row in rows]

    def down(self) -> None:
        """Cancel all jobs, end the daemons and what they started, and wait for that."""
        for job in self.jobs():
            if job["state"] in ("RUNNING", "PENDING", "COMPLETING"):
                self.run("scancel", job["id"])
        for _ in range(60):
            if not any(job["state"] in ("RUNNING", "COMPLETING") for job in self.jobs()):
                break
            time.sleep(0.5)
        for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld"):
            daemon = psutil.Process(int((self.folder / f"{name}.pid").read_text()))
            daemon.send_signal(signal.SIGTERM)
        for _ in range(60):
            if not self.processes():
                return
            time.sleep(0.5)

    def end(self, workflows) -> list[psutil.Process]:
        """End workflows that still run and the cluster; kill and return what that leaves."""
        for workflow in workflows:
            if workflow.process.poll() is None:
                workflow.process.kill()
        self.down()
        left = self.processes()
        for process in left:
            process.kill()
        return left

    def processes(self) -> list[psutil.Process]:
        """Living processes of this cluster: its daemons, and what works beside its folder."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]
                ours = ours or Path(process.cwd()).is_relative_to(self.folder.parent)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        return found


class Started:
    """A workflow that runs in ``folder`` through a profile, its output in a file there."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        profile: Path,
        *arguments,
        overlays=(),
        snakefile=ROOT / "Snakefile",
    ):
        line = command(folder, "--profile", str(profile), *map(str, arguments), overlays=overlays)
        # How many jobs there are at a time is the profile's business.
        at = line.index("--cores")
        del line[at : at + 2]
        line[line.index("--snakefile") + 1] = str(snakefile)
        folder.mkdir(exist_ok=True)
        self.log = folder / "workflow.log"
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                line, cwd=ROOT, env=cluster.environment, stdout=stream, stderr=stream
            )

    @property
    def output(self) -> str:
        return self.log.read_text()


def of_rule(jobs: list[dict], folder: Path, *words: str) -> list[dict]:
    """Jobs of a folder whose comment, which tells rule and wildcards, has all ``words``."""
    mine = [job for job in jobs if job["folder"] == str(folder)]
    return [job for job in mine if all(word in job["comment"] for word in words)]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
