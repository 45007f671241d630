"""How tests run the real workflow in miniature."""

import atexit
import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
    import os
    import traceback

    from snakemake.cli import main

    import regaze.settings  # noqa: F401

    program = importlib.util.find_spec("snakemake.__main__").origin
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            status = 1
            try:
                for number, path in enumerate(asked["streams"], 1):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                sys.argv = [program, *asked["line"]]
                main()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
