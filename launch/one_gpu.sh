#!/usr/bin/env bash
# launch/one_gpu.sh pack|unpack|train|bench [OPTIONS] [-- ARGUMENTS]
#
# Trains and measures on a GPU machine without network ("the box") that is lent for minutes at a time and takes folders of limited size. Every
# step ends within its time limit, resumes with the same command, and reports as JSON lines in BOX/progress.jsonl.
#
#   pip wheel --no-deps --wheel-dir wheels .                            # here: satjax itself; the box also needs launch/ and configs/
#   launch/one_gpu.sh pack --out parts -- outcomes wheels               # here: parts/1, parts/2, ... of at most 60 MiB each, say two
#   launch/one_gpu.sh unpack --inputs parts/1                           # there, for every part but the last, which is parts/2 here
#   launch/one_gpu.sh train --inputs parts/2 -- \
#     --config configs/smollm2.py --config.data.outcomes=box/outcomes --workdir box/run   # until it does not end with 75
#   launch/one_gpu.sh pack --out more -- benchmarks configs wheels      # here, to measure
#   launch/one_gpu.sh bench --inputs more/2                             # there, until it does not end with 75: box/results/*.json
#
# pack: puts the base weights of the cache ($SATJAX_CACHE or ~/.cache/satjax) and the paths after -- into folders.
#   --out DIR            must not exist
#   --weights A,B        names of folders of the cache (default: every one that holds weights)
#   --mib N              the most that a folder may hold (default: 60)
#   hub: weights are in the Hugging Face cache and are not packed; copy them to a folder, pack that, and train with
#   --config.router.llm.weights=dir:PATH
# unpack: keeps one part on the box and, once all parts have come, lays them out there: the base weights as BOX/cache, each path under its last
#   name. New inputs replace old ones of the same name, and the installed satjax; the old ones and BOX/results are kept as BOX/before-TIME.
#   --inputs DIR         one folder that pack made
#   --box DIR            where the box keeps things between the steps (default: box)
# train: unpack, an installation without network if BOX/wheels has come (into BOX/site, before what the box's Python has), and satjax train.
#   The wheels are satjax's own and those that it needs and the box lacks: what these need in turn is not looked for.
#   --inputs DIR, --box DIR   as for unpack; --inputs is not needed once all parts have come
#   --seconds N          save a checkpoint and stop after N seconds; everything has ended at most 45 seconds later (default: 540)
# bench: as train, but benchmarks/rank.py, train.py, train_large.py, attention.py and scale.py, each to its end once. What one of them has measured when
#   the time is over is kept as BOX/results/NAME.partial.json; the next call starts that one again. What failed within one is in its report.
#   --inputs DIR, --box DIR, --seconds N   as for train
#   --only A,B           some of them (default: rank,train,train_large,attention,scale)
#   ARGUMENTS            go to each of them
# All: --dry-run prints every command, runs none.
#
# Exit code of train and bench: 0: the router is in the workdir, or all is measured. 75: saved, run the same command again. 2: a mistake
# that you can fix. Otherwise that of satjax train, or of the benchmark.
verb=${1:-}
(($# == 0)) || shift
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# note EVENT NAME=NUMBER...: a line of progress.
note() {
  local pair line
  line="{\"event\": \"$1\", \"time\": $(date +%s)"
  shift
  for pair in "$@"; do line+=", \"${pair%%=*}\": ${pair#*=}"; done
  printf '%s}\n' "$line" >>"$box/progress.jsonl"
}

pack() {
  out='' weights='' mib=60
  parse_arguments "out" "weights mib" "" "$@"
  check_positive mib
  local cache=${SATJAX_CACHE:-$HOME/.cache/satjax} names=() from=() path folder part number=0
  [[ ! -e $out ]] || die "--out $out is there already: name a new folder"
  if [[ $weights ]]; then
    IFS=, read -r -a names <<<"$weights"
  else
    for path in "$cache"/*/; do
      if compgen -G "$path*.gguf" >/dev/null || compgen -G "$path*.safetensors" >/dev/null; then names+=("$(basename "$path")"); fi
    done
  fi
  for path in "${names[@]}"; do
    [[ -d $cache/$path ]] || die "no base weights $path in $cache: see satjax doctor"
  done
  for path in "${REST[@]}"; do
    [[ -e $path ]] || die "$path: there is no such file or folder"
    path=$(realpath --no-symlinks -- "$path")
    from+=(-C "$(dirname "$path")" "$(basename "$path")")
  done
  ((${#names[@]} + ${#REST[@]})) || die "nothing to pack: no base weights in $cache, and no paths after --"
  # SHA256SUMS lies in every folder, so a part leaves some room for it.
  local tar=(tar --create --dereference --sort name)
  ((${#names[@]} == 0)) || tar+=(--transform "s|^\./|cache/|" -C "$cache" "${names[@]/#/./}")
  tar+=("${from[@]}")
  local split=(split --bytes "$((mib * 1024 - 64))K" --numeric-suffixes=1 --suffix-length 3 - "$out/part-")
  if [[ $dry_run ]]; then
    quoted mkdir -p "$out"
    echo "$(quoted "${tar[@]}") | $(quoted "${split[@]}")"
    echo "(cd $(quoted "$out") && sha256sum part-*) # as SHA256SUMS into one folder for each part"
    return
  fi
  mkdir -p "$out"
  "${tar[@]}" | "${split[@]}"
  (cd "$out" && sha256sum part-* >SHA256SUMS)
  for part in "$out"/part-*; do
    number=$((number + 1)) folder=$out/$number
    mkdir "$folder"
    mv "$part" "$folder/"
    cp "$out/SHA256SUMS" "$folder/"
  done
  rm "$out/SHA256SUMS"
  say "$number folders in $out"
}

# Other inputs are here, whole: what is left of those before would be taken for them, a wheel or a file that is no more, or a result.
set_aside() {
  local name before
  before=$box/before-$(date +%s)
  rm -rf "$box/site"
  while IFS= read -r name; do
    case $name in
      parts) ;;
      # Weights come whole, and are large; what else is in the cache stays.
      cache/*) rm -rf "${box:?}/$name" ;;
      *)
        [[ -e $box/$name ]] || continue
        mkdir -p "$before"
        mv "$box/$name" "$before/"
        ;;
    esac
  done < <(
    echo results
    cat "$box"/parts/part-* | tar --list --quoting-style literal | sed 's|^\(cache/[^/]*\)/.*|\1|; t; s|/.*||' | sort -u
  )
  [[ ! -d $before ]] || say "what was there of other inputs is in $before"
}

# Takes in the part of $inputs; once all are there, lays out what they hold. Nothing is there half: each step ends with a rename.
take_in() {
  local part sums=$inputs/SHA256SUMS all here
  if [[ $dry_run ]]; then
    quoted sha256sum --check --ignore-missing SHA256SUMS
    echo "cat $(quoted "$box")/parts/part-* | $(quoted tar --extract --directory "$box")"
    return
  fi
  [[ -f $sums ]] || die "--inputs $inputs: there is no SHA256SUMS in it; give a folder that pack made"
  mkdir -p "$box/parts"
  if ! cmp --silent "$sums" "$box/parts/SHA256SUMS"; then
    [[ ! -e $box/parts/SHA256SUMS ]] || say "other inputs than before: their parts are gathered from the first"
    rm -rf "$box/parts"
    mkdir -p "$box/parts"
    cp "$sums" "$box/parts/SHA256SUMS"
  fi
  [[ ! -e $box/parts/complete ]] || return 0
  (cd "$inputs" && sha256sum --check --quiet --ignore-missing SHA256SUMS) || die "--inputs $inputs: a part is damaged; copy it again"
  for part in "$inputs"/part-*; do
    cp "$part" "$box/parts/.coming"
    mv "$box/parts/.coming" "$box/parts/$(basename "$part")"
  done
  all=$(wc -l <"$sums") here=$(find "$box/parts" -name 'part-*' | wc -l)
  note unpack "parts=$here" "of=$((all))"
  say "$((here)) of $((all)) parts are here"
  ((here == all)) || return 0
  (cd "$box/parts" && sha256sum --check --quiet SHA256SUMS) || die "$box/parts: a part is damaged; remove that folder and unpack again"
  set_aside
  cat "$box"/parts/part-* | tar --extract --directory "$box"
  : >"$box/parts/complete"
  rm "$box"/parts/part-*
}

unpack() {
  inputs='' box=box
  parse_arguments "inputs" "box" "" "$@"
  take_in
}

# Says which satjax runs: that of BOX/wheels where these have come. They go into a folder of their own, since a virtual environment that is made
# from one sees nothing of what that has, and without their dependencies: the box has the large ones, and what a run does not import may be missing.
install() {
  satjax=satjax
  if [[ -d $box/wheels ]]; then
    local site
    site=$(realpath --canonicalize-missing -- "$box/site")
    satjax=$site/bin/satjax
    if [[ ! -d $site ]]; then
      run rm -rf "$site.coming"
      run python3 -m pip install --quiet --no-index --no-deps --target "$site.coming" "$box"/wheels/*.whl
      run mv "$site.coming" "$site"
      [[ $dry_run ]] || note install
    fi
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
  fi
  [[ $dry_run ]] || command -v "$satjax" >/dev/null || die "there is no satjax here: pack a folder named wheels with its wheel and what the box lacks"
}

train() {
  inputs='' box=box seconds=540
  parse_arguments "" "inputs box seconds" "" "$@"
  check_number seconds
  check_train_arguments
  [[ ! $inputs ]] || take_in
  [[ $dry_run || -e $box/parts/complete ]] || die "not all parts have come: unpack the other folders first"
  install
  local left=$((seconds - SECONDS)) code=0 steps
  # What is compiled is kept: the next call on the box starts immediately.
  local command=(env "SATJAX_CACHE=$box/cache" "JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$box/compiled}"
    timeout --preserve-status --kill-after 45 "$((left > 0 ? left : 1))" "$satjax" train "${REST[@]}")
  if [[ $dry_run ]]; then
    quoted "${command[@]}"
    return
  fi
  note train_start
  "${command[@]}" &
  # shellcheck disable=SC2064
  trap "kill -TERM $! || true" INT TERM
  await $! || code=$?
  # A run that was killed resumes from its last checkpoint like one that could save.
  if ((code != 0)) && retryable "$code"; then code=$SAVED; fi
  steps=$(sed -n '$s/^{"step": \([0-9]*\),.*/\1/p' "$(train_value workdir)/metrics.jsonl" 2>/dev/null || true)
  note train_end "exit=$code" "steps=${steps:-0}" "seconds=$SECONDS"
  exit "$code"
}

bench() {
  inputs='' box=box seconds=540 only=rank,train,train_large,attention,scale
  parse_arguments "" "inputs box seconds only" "" "$@"
  check_number seconds
  [[ ! $inputs ]] || take_in
  [[ $dry_run || -e $box/parts/complete ]] || die "not all parts have come: unpack the other folders first"
  [[ $dry_run || -d $box/benchmarks ]] || die "there are no benchmarks in $box: pack the folder of that name"
  install
  local name names left code=0 results=$box/results
  IFS=, read -r -a names <<<"$only"
  [[ $dry_run ]] || mkdir -p "$results"
  for name in "${names[@]}"; do
    [[ ! -e $results/$name.json ]] || continue
    left=$((seconds - SECONDS))
    local command=(env "SATJAX_CACHE=$box/cache" "JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$box/compiled}"
      timeout --kill-after 10 "$((left > 0 ? left : 1))" python3 "$box/benchmarks/$name.py" --out "$results/$name.partial.json" "${REST[@]}")
    if [[ $dry_run ]]; then
      quoted "${command[@]}"
      continue
    fi
    note bench_start
    code=0
    "${command[@]}" || code=$?
    note bench_end "exit=$code" "seconds=$SECONDS"
    if ((code == 124 || code == 137)); then exit "$SAVED"; fi
    ((code == 0)) || exit "$code"
    mv "$results/$name.partial.json" "$results/$name.json"
  done
}

case $verb in
  pack | unpack | train | bench) "$verb" "$@" ;;
  -h | --help) show_help ;;
  *) die "'$verb' is no step: pack, unpack, train or bench (see --help)" ;;
esac
