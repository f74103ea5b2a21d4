# shellcheck shell=bash disable=SC2034
# What the launchers share: arguments, dry runs, and what is tried again. It is sourced, not run.
set -euo pipefail

# What cannot be said, to a terminal that was closed, is no reason to stop.
say() { printf 'launch: %s\n' "$*" >&2 || true; }

die() {
  say "$*"
  exit 2
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || die "bash $BASH_VERSION is too old: 4.4 is needed"

ROOT=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where the file system that all hosts share is mounted. satjax reads and writes files: it knows no gs:// addresses.
readonly ROOT SHARE_DIR=/mnt/satjax

# What `satjax train` ends with when the same command resumes: 75 says that everything is saved; the others (128 + signal: ABRT, BUS, KILL, SEGV,
# TERM) are those of a process that died with its host or its share, or for the loss of another. Everything else is a mistake that trying again
# would repeat.
readonly SAVED=75 RETRY_CODES=(75 134 135 137 139 143)
# Somebody else's run is on the host: theirs is the slice.
readonly TAKEN=69
# The connection was lost, so how it ended is not known; ssh's own exit code.
readonly LOST=255

retryable() {
  local code
  for code in "${RETRY_CODES[@]}" "$LOST"; do
    [[ $1 != "$code" ]] || return 0
  done
  return 1
}

# verdict LOG OWN: one exit code for all hosts, from the lines "satjax-launch: exit N" that they wrote to LOG, and the exit code OWN of the
# command that reached them. What must not be tried again wins: where one host stops for a mistake, the others die for the loss of it.
verdict() {
  local code found=0
  while read -r code; do
    if ((code != 0)); then
      found=$code
      retryable "$code" || break
    fi
  done < <(sed -n 's/.*satjax-launch: exit \([0-9][0-9]*\).*/\1/p' "$1")
  ((found != 0 || $2 == 0)) || found=$LOST
  printf '%s\n' "$found"
}

# insist COMMAND...: runs it up to five times, with longer and longer pauses: what is busy, or not reached for a moment, is no reason to end.
insist() {
  local tries
  for tries in 1 2 3 4 5; do
    ! "$@" || return 0
    ((tries == 5)) || sleep "$((tries * 5))"
  done
  return "$SAVED"
}

# await PID: until a command in the background has ended, with its exit code. bash hears of signals between commands, and of one that comes just before
# its `wait` blocks only when that is over: so it never waits long.
await() {
  local code=0
  while kill -0 "$1" 2>/dev/null; do
    sleep 0.2 &
    wait $! || true
  done
  wait "$1" || code=$?
  return "$code"
}

# The comment at the top of the script, which is its help.
show_help() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# Words as a line of bash that gives the same words.
quoted() {
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  printf '%s\n' "${line:1}"
}

# run COMMAND...: runs it; in a dry run prints it.
dry_run=''
run() {
  if [[ $dry_run ]]; then quoted "$@"; else "$@"; fi
}

# parse_arguments REQUIRED OPTIONAL FLAGS ARGUMENT...: sets the variable some_name for --some-name VALUE or --some-name=VALUE, and to "yes"
# for a flag. What follows `--` is kept in REST. --help and --dry-run are always understood.
REST=()
parse_arguments() {
  # Underscores at the end: the options' own variables are set from here, and must not be hidden by these.
  local required_=$1 optional_=$2 flags_=" $3 dry-run " key_ value_
  shift 3
  while (($#)); do
    case $1 in
      --)
        shift
        REST=("$@")
        break
        ;;
      -h | --help)
        show_help
        exit 0
        ;;
      --*) ;;
      *) die "unknown argument '$1': what satjax gets stands after -- (see --help)" ;;
    esac
    key_=${1#--} value_=''
    if [[ $key_ == *=* ]]; then
      value_=${key_#*=} key_=${key_%%=*}
      [[ $flags_ != *" $key_ "* ]] || die "--$key_ takes no value"
    fi
    if [[ $flags_ == *" $key_ "* ]]; then
      value_=yes
    elif [[ " $required_ $optional_ " != *" $key_ "* ]]; then
      die "unknown option --$key_ (see --help)"
    elif [[ $1 != *=* ]]; then
      (($# > 1)) && [[ $2 != -- ]] || die "--$key_ needs a value"
      value_=$2
      shift
    fi
    [[ $value_ ]] || die "--$key_ needs a value"
    printf -v "${key_//-/_}" '%s' "$value_"
    shift
  done
  for key_ in $required_; do
    value_=${key_//-/_}
    [[ ${!value_} ]] || die "--$key_ is missing (see --help)"
  done
}

# check_number NAME...: each variable holds a whole number.
check_number() {
  local name
  for name in "$@"; do
    [[ ${!name} =~ ^(0|[1-9][0-9]*)$ ]] || die "--${name//_/-} ${!name}: give a whole number"
  done
}

# check_positive NAME...: each variable holds a whole number above 0.
check_positive() {
  local name
  check_number "$@"
  for name in "$@"; do
    ((${!name} > 0)) || die "--${name//_/-} ${!name}: give a number above 0"
  done
}

# train_value NAME: the value of --NAME among what satjax gets, for which the last one counts.
train_value() {
  local i value=''
  for ((i = 0; i < ${#REST[@]}; i++)); do
    case ${REST[i]} in
      "--$1") value=${REST[i + 1]:-} ;;
      "--$1="*) value=${REST[i]#*=} ;;
    esac
  done
  printf '%s\n' "$value"
}

# The step of the newest checkpoint in a workdir, 0 where there is none: what an attempt has brought.
newest_step() {
  local step
  step=$(find "$1/checkpoints" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | grep -x '[0-9]*' | sort -n | tail -n 1) || true
  printf '%s\n' "${step:-0}"
}

# Mistakes in what `satjax train` gets that would show only when an accelerator is held.
check_train_arguments() {
  local argument name
  for name in config workdir; do
    [[ $(train_value "$name") ]] || die "after -- stand the arguments of satjax train, with --config and --workdir (see --help)"
  done
  for argument in "${REST[@]}"; do
    [[ $argument != *gs://* ]] || die "$argument: satjax reads files; mount the bucket and name the path under its mount (see --help)"
  done
}

# join_slices NUMBER: several slices come minutes apart, and each time that those which are there give up costs one of few restarts.
join_slices() {
  (($1 == 1)) || [[ $(train_value join-timeout) ]] || REST+=(--join-timeout 3600)
}

# A workdir that all hosts share, and that outlives them.
check_shared_workdir() {
  local workdir
  workdir=$(train_value workdir)
  [[ $workdir == "$SHARE_DIR"/* ]] || die "--workdir $workdir lies on one host's disk and goes with it: name one under $SHARE_DIR, where the share is mounted"
}

# Outcomes that all hosts find. Those that are not among the arguments stand in the config, as far as it lies in this checkout; one that takes them from
# another config does not show them.
check_shared_outcomes() {
  local outcomes config
  outcomes=$(train_value config.data.outcomes)
  config=$(train_value config)
  config=${config%%:*}
  if [[ ! $outcomes && -f $ROOT/$config ]]; then
    outcomes=$(sed -n "s/.*\<outcomes[\"']\?\]\? *[:=] *[\"']\([^\"']*\)[\"'].*/\1/p" "$ROOT/$config" | head -n 1)
    [[ $outcomes ]] ||
      die "--config $config does not say itself which outcomes it takes: give --config.data.outcomes=$SHARE_DIR/..., or =synthetic"
  fi
  [[ $outcomes =~ ^(synthetic(:.*)?)?$ || $outcomes == "$SHARE_DIR"/* ]] ||
    die "outcomes $outcomes are on no host: copy them onto the share, and give --config.data.outcomes=$SHARE_DIR/..."
}
