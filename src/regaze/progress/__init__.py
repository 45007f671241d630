"""One line for a whole run of the workflow: what runs, what share is done, when it will end.

:mod:`~regaze.progress.costs` expects CPU seconds of jobs, :mod:`~regaze.progress.plan` makes a
forecast and an order of them, :mod:`~regaze.progress.live` shows it in place of Snakemake's text.
"""

LOG_FILES_ONLY = "REGAZE_LOG_FILES_ONLY"
"""Environment variable that is set where jobs write log files alone, nothing to the terminal."""
