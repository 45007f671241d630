#!/usr/bin/env bash
# Guess:   A rule whose parameters changed runs again: Snakemake records them and says "params" as a
#          reason.
# Happens: Snakemake 9.27.1 compares parameters as a set of texts, without names or number. Two that
#          exchange their values (lr=1, momentum=2 becomes lr=2, momentum=1), and a flag that is set
#          where another is set and a third is not, are "Nothing to be done"; the result of the old
#          parameters stays. A change to a value that no parameter had does run again.
# Seen:    snakemake 9.27.1, Python 3.11, Linux x86-64, 2026-11-30
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check snakemake==9.27.1
write() {
  cat > Snakefile <<SMK
rule train:
    output: "weights.txt"
    params: lr=$1, momentum=$2, flip=$3, crop=True, mirror=False
    shell: "echo lr {params.lr} momentum {params.momentum} flip {params.flip} > {output}"
SMK
}
plan() {
  venv/bin/snakemake --cores 1 -n > plan.txt 2>&1
  if grep -q "Nothing to be done" plan.txt; then echo nothing; else echo again; fi
}
write 1 2 False
venv/bin/snakemake --cores 1 --quiet all > /dev/null 2>&1
fail=0
look() {
  found=$(plan)
  echo "$1: $found"
  [ "$found" = "$2" ] || fail=1
}
write 2 1 False
look "lr and momentum exchange their values" nothing
write 1 2 True
look "flip is set, as crop is; mirror stays unset, as flip was" nothing
write 3 2 False
look "lr becomes a value that nothing had" again
[ "$fail" = 0 ] || { echo "this is not what was seen before"; exit 1; }
