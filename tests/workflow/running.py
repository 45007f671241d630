"""How tests run the real workflow in miniature."""

import re
import subprocess
import sys
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
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    done.output = done.stdout + done.stderr
    return done


def planned(done):
    """Names and numbers of the jobs of a dry run."""
    assert done.returncode == 0, done.output[-3000:]
    table = re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)
    return {name: int(count) for name, count in table if name != "total"}
