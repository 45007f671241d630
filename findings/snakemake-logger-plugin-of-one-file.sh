#!/usr/bin/env bash
# Guess:   `snakemake --logger mine` takes any importable module `snakemake_logger_plugin_mine`: a single
#          file is as good as a folder with `__init__.py`, as it is for Python itself.
# Happens: snakemake 9.27.1 (snakemake-interface-common 1.23.0) looks at packages only. A plugin of one
#          file is passed over: it is no choice of --logger, and asked for by name it is "not installed",
#          although it can be imported. The same lines in a folder are found. The other way round, a
#          comment in that code says that editable installations are not found; a folder that a .pth
#          file names, which is what hatchling's make, is.
# Seen:    snakemake 9.27.1, snakemake-interface-common 1.23.0, snakemake-interface-logger-plugins 2.1.0,
#          Python 3.11, Linux x86-64, 2026-11-30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check snakemake==9.27.1 \
  snakemake-interface-common==1.23.0 snakemake-interface-logger-plugins==2.1.0
mkdir -p source/snakemake_logger_plugin_folder
cat > source/snakemake_logger_plugin_folder/__init__.py <<'PY'
import sys
from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    writes_to_stream, writes_to_file = True, False
    has_filter = has_formatter = needs_rulegraph = False

    def emit(self, record):
        print("told by the plugin", file=sys.stderr)
PY
cp source/snakemake_logger_plugin_folder/__init__.py source/snakemake_logger_plugin_file.py
echo "$work/source" > "$(echo venv/lib/python3*/site-packages)/plugins.pth"
printf 'rule all:\n    shell: "true"\n' > Snakefile
fail=0
for name in folder file; do
  venv/bin/python -c "import snakemake_logger_plugin_$name" && importable=yes || importable=no
  if venv/bin/snakemake --cores 1 --logger "$name" > log.txt 2>&1 && grep -q "told by the plugin" log.txt; then
    found=yes
  else
    found=no
  fi
  echo "plugin of one $name: importable $importable, used by --logger $found"
  case "$name" in folder) expected="yes yes" ;; file) expected="yes no" ;; esac
  [ "$importable $found" = "$expected" ] || { tail -3 log.txt; fail=1; }
done
[ "$fail" = 0 ] || { echo "this is not what was seen before"; exit 1; }
