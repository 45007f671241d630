"""Says aloud when the tests on SLURM did not run."""

from cluster import missing


def pytest_terminal_summary(terminalreporter):
    absent = missing()
    if absent:
        line = f"NOT TESTED ON SLURM: this machine lacks {'; '.join(absent)}"
        terminalreporter.write_sep("!", line, yellow=True, bold=True)
