"""How tests run the real workflow in miniature."""

import atexit
import contextlib
import functools
import json
import os
import re
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "workflow_scripts").glob("*.py"))


def command(folder, *arguments, overlays=()):
    """The command that runs the workflow in ``folder`` with the tiny overlay and ``overlays``."""
    parts = [
        *(sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"),
        *("--directory", folder, "--cores", "2"),
        *("--configfile", ROOT / "configs/tiny.yaml", *overlays),
        *("--workflow-profile", ROOT / "profiles/default"),
    ]
    return [*map(str, parts), *arguments]


def snakemake(folder, *arguments, overlays=()):
    """Run the workflow; ``output`` of the result holds both streams."""
    line = command(folder, *arguments, overlays=overlays)
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place, name) for name in ("stdout", "stderr")]
        asked = {"line": line[3:], "streams": list(map(str, streams))}
        status = warm_snakemake()(asked)
        done = subprocess.CompletedProcess(line, status, *(path.read_text() for path in streams))
    done.output = done.stdout + done.stderr
    return done


@functools.cache
def warm_snakemake():
    """Runs Snakemake in forks of a process that has imported it, which takes longest of a plan."""
    server = subprocess.Popen(
        [sys.executable, __file__],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(server.stdin.close)

    def ask(request):
        print(json.dumps(request), file=server.stdin, flush=True)
        return int(server.stdout.readline())

    return ask


def planned(done):
    """Names and numbers of the jobs of a dry run."""
    assert done.returncode == 0, done.output[-3000:]
    table = re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)
    return {name: int(count) for name, count in table if name != "total"}


def serve():
    """Run a Snakemake per line of the standard input, and answer with its exit status."""
    import importlib.util

    from snakemake.cli import main

    from regaze.versioning import code

    # What every plan imports and reads.
    for path in (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")):
        for name in re.findall(r"^from (regaze[\w.]*) import", path.read_text(), re.MULTILINE):
            importlib.import_module(name)
    sources = code.Sources()
    for script in SCRIPTS:
        sources.files(script, code.Picked())
    program = importlib.util.find_spec("snakemake.__main__").origin
    for line in sys.stdin:
        asked = json.loads(line)
        plans = {"-n", "--lint", "--list-rules"} & {*asked["line"]}
        if not plans:
            import_for_jobs()
        child = os.fork()
        if not child:
            for number, path in enumerate(asked["streams"], 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            if not plans:
                fork_jobs()
            ended(main, [program, *asked["line"]])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def ended(function, arguments):
    """End this process as Python ends a program, whose arguments ``sys.argv`` has."""
    status = 1
    try:
        sys.argv = arguments
        function()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


@functools.cache
def import_for_jobs():
    """Import what the scripts of rules import, which takes longer than most of them do."""
    for script in SCRIPTS:
        runpy.run_path(str(script))
    # Jobs import these when they need them: trainings, metrics.
    import lpips  # noqa: F401
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401


def fork_jobs():
    """Have this Snakemake run its scripts in forks of a child that it starts now."""
    from snakemake.benchmark import benchmarked
    from snakemake.script import PythonScript

    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        here.close()
        answer_jobs(there)
    there.close()

    def execute(self, path, edit=False):
        mine, other = socket.socketpair()
        with mine, mine.makefile() as answers:
            with other:
                asked = {"line": [path], "folder": os.getcwd(), "environment": {**os.environ}}
                socket.send_fds(here, [json.dumps(asked).encode()], [other.fileno()])
            pid = int(answers.readline())
            with benchmarked(pid if self.bench_record else False, self.bench_record):
                mine.sendall(b"\n")
                status = int(answers.readline())
        if status:
            raise subprocess.CalledProcessError(status, path)

    PythonScript.execute_script = execute


def answer_jobs(requests):
    """Fork a process per request, and tell its number and how it ended, until nobody can ask."""
    while True:
        message, handles, _, _ = socket.recv_fds(requests, 1 << 20, 1)
        if not message:
            os._exit(0)
        asked = json.loads(message)
        waiting = os.fork()
        if waiting:
            os.close(handles[0])
            continue
        answer = socket.socket(fileno=handles[0])
        requests.close()
        job = os.fork()
        if not job:
            # Until it is watched: a benchmark cannot begin at a process that has ended.
            if not answer.recv(1):
                os._exit(1)
            answer.close()
            os.chdir(asked["folder"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            (path,) = asked["line"]
            ended(functools.partial(runpy.run_path, path, run_name="__main__"), [path])
        answer.sendall(f"{job}\n".encode())
        _, status = os.waitpid(job, 0)
        answer.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    serve()
