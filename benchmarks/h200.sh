#!/usr/bin/env bash
# Trains, samples and measures configs/h200.yaml within a limit of time; run it again until it says
# "done". What was trained is kept and training goes on where it stopped, so leases may be short.
#
#   benchmarks/h200.sh [SECONDS=3300] [more snakemake arguments, such as --configfile ...]
#
# Results are in build/h200/results, the page in build/h200/results/report/index.html.
set -uo pipefail
cd "$(dirname "$0")/.."
limit=${1:-3300}
shift || true
configs=(config.yaml configs/h200.yaml)
if [ "${1:-}" = short ]; then
  configs+=(configs/h200-short.yaml)
  shift
fi
mkdir -p build/h200
# SIGTERM reaches the jobs too: training saves its state, everything else is made again.
timeout --signal=TERM "$limit" snakemake --cores all --resources gpu=3 --directory build/h200 \
  --configfile "${configs[@]}" "$@" -- results/report/index.html
status=$?
case $status in
  0) echo "done: build/h200/results/report/index.html" ;;
  124) echo "stopped after $limit s; run again to go on" ;;
  *) echo "failed with status $status; see the messages above and build/h200/logs" ;;
esac
exit $status
