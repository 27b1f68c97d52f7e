#!/usr/bin/env bash
# Everything that needs a GPU, in one command and in about half an hour on an H200:
#
#   benchmarks/gpu_all.sh OUT    the tests marked gpu, compute-sanitizer on a short set, the tuning pass, the
#                                benchmark, and last the properties of every backend, which compile for long
#
# OUT gets log.txt, tuning*.json, gpu.json, gpu.png and summary.txt. Each phase has a time limit of its own and none stops
# the next; what a phase has measured when its time is up stays. The exit status is 0 if all that could run passed.
#
#   WHEELS=dir    packages that this Python lacks, as wheels; with it nothing is looked for on a network
#   PYTHON=path   the interpreter, by default python3; it has torch, NumPy, SciPy, pytest and the CUDA packages
#   PHASES="…"    only these of: install device tests sanitize tune bench properties
#   SCALE=0.1     multiplies all time limits
#   WORK=dir      what is installed and compiled, by default build/gpu; later calls with other PHASES find it there
#
# Nothing is installed into the interpreter's own environment.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:?usage: benchmarks/gpu_all.sh OUT}" && cd "$1" && pwd) || exit
work=$(mkdir -p "${WORK:-build/gpu}" && cd "${WORK:-build/gpu}" && pwd) || exit
wheels=${WHEELS:+$(cd "$WHEELS" && pwd)}
repository=$PWD
python=$(command -v "${PYTHON:-python3}") || { echo "no Python: ${PYTHON:-python3}" && exit 1; }
started=$SECONDS
summary=()
failed=0
export out work wheels repository python scale=${SCALE:-1}
export PYTHONPATH=$work/site GPUDIFF_CACHE_DIR=$work/cache
export GPUDIFF_COMMIT=${GPUDIFF_COMMIT:-$(git describe --always --abbrev=40 --exclude='*' --dirty=+changes 2>/dev/null)}

limited() { awk -v seconds="$1" -v scale="$scale" 'BEGIN { printf "%d", seconds * scale + 0.5 }'; }

phase() { # phase NAME SECONDS: runs the function of that name in a process of its own
  local name=$1 limit start=$SECONDS code=0 verdict
  [[ " ${PHASES:-install device tests sanitize tune bench properties} " == *" $name "* ]] || return 0
  limit=$(limited "$2")
  printf '\n=== %s, at most %s s\n' "$name" "$limit" | tee -a "$out/log.txt"
  # Straight to the disk: a machine that is taken away leaves what it had.
  timeout --kill-after=10 "$limit" bash -c "$name" >"$work/$name.log" 2>&1 || code=$?
  cat "$work/$name.log" >>"$out/log.txt"
  tail -n 25 "$work/$name.log"
  case $code in
    0) verdict=passed ;;
    77) verdict="skipped: $(tail -n 1 "$work/$name.log")" ;;
    124 | 137) verdict="stopped after $limit s" failed=1 ;;
    *) verdict="FAILED ($code)" failed=1 ;;
  esac
  summary+=("$(printf '%-10s %4d s  %s' "$name" $((SECONDS - start)) "$verdict")")
  printf '%s\n' "${summary[@]}" >"$out/summary.txt"
}

install() {
  local pip=("$python" -m pip --disable-pip-version-check install --quiet --no-deps --upgrade --target "$work/site")
  if [[ -n $wheels ]]; then
    "${pip[@]}" --no-index "$wheels"/*.whl || return
    "${pip[@]}" --no-index --no-build-isolation .
  else
    "${pip[@]}" --no-build-isolation . || "${pip[@]}" .
  fi
}

# The rest runs outside the checkout, where `import gpudiff` finds what was installed.

device() {
  cd "$work" && nvidia-smi
  "$python" - <<'PYTHON'
import sys
import gpudiff
print(gpudiff.__file__)
print(gpudiff.info())
reason = gpudiff.info().backends["cuda"]
sys.exit(0 if reason is None else f"the cuda backend cannot be used: {reason}")
PYTHON
}

on_gpu() { cd "$work" && "$python" -m pytest -o addopts= -m gpu -q -rs --durations=10 -p no:cacheprovider "$@"; }
tests() { on_gpu "$repository/tests" --ignore "$repository/tests/test_gpu_properties.py"; }
# Hundreds of structures, each of which takes seconds to compile: as many as there is time for.
properties() { on_gpu "$repository/tests/test_gpu_properties.py"; }

# The sanitizers slow a kernel down a hundredfold: a few small problems through every kernel, each tool on its own.
sanitize() {
  local sanitizer tool code=0
  cd "$work" || return
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -n 1)
  [[ -n $sanitizer ]] || { echo "compute-sanitizer is not installed" && return 77; }
  "$python" "$repository/tests/gpu_short_set.py" || return # compiles, too
  for tool in memcheck racecheck synccheck; do
    printf '\n--- %s\n' "$tool"
    timeout "$(limited 70)" "$sanitizer" --tool "$tool" --error-exitcode 3 "$python" "$repository/tests/gpu_short_set.py" ||
      code=$?
  done
  return "$code"
}

bench_on_gpu() { cd "$work" && "$python" -m gpudiff.bench --device cuda --quiet --repeat 3 --sample 8 "$@"; }

# The families from which gpudiff/jit/plan.py takes its table of group sizes.
tune() {
  local families='^(qp|optnet-100-100)'
  bench_on_gpu --tune --dtype float64 --filter "$families" --seconds 0.03 --limit "$(limited 120)" \
    --json "$out/tuning.json"
  bench_on_gpu --tune --method active_set --dtype float64 --filter "$families" --seconds 0.03 --limit "$(limited 80)" \
    --json "$out/tuning-active-set.json"
}

bench() { bench_on_gpu --seconds 0.05 --limit "$(limited 420)" --json "$out/gpu.json" --plot; }

export -f install device tests properties on_gpu sanitize tune bench bench_on_gpu limited
phase install 300
phase device 60
phase tests 240
phase sanitize 240
phase tune 240
phase bench 480
phase properties 600

printf '\n'
printf 'total      %4d s\n' $((SECONDS - started)) >>"$out/summary.txt"
cat "$out/summary.txt"
exit "$failed"
