#!/usr/bin/env bash
# launch/tpu_vm.sh --name NAME --zone ZONE --accelerator TYPE --share SHARE [OPTIONS] -- TRAIN ARGUMENTS
#
# Trains on a slice of TPU VMs, requested as a queued resource: waits for it, installs satjax, runs `satjax train` on all hosts, tries again
# after a preemption, deletes the slice at the end.
#
#   launch/tpu_vm.sh --name first --zone us-east5-b --accelerator v6e-16 --spot --share 10.0.0.2:/satjax -- \
#     --config configs/smollm2.py --config.data.outcomes=/mnt/satjax/outcomes --workdir /mnt/satjax/runs/first
#
#   --name NAME          of the queued resource and of its node
#   --zone ZONE
#   --accelerator TYPE   v5litepod-16, v6e-16, v5p-16, v4-16 and so on
#   --share SHARE        mounted at /mnt/satjax on every host: an NFS export HOST:/PATH (Filestore, say), or a bucket gs://NAME. A checkpoint
#                        is finished by renaming its directory: in a bucket that is one step only with a hierarchical namespace
#   --runtime VERSION    of the TPU software (default: the one for the accelerator)
#   --project PROJECT    (default: gcloud's)
#   --spot               cheaper, and may be taken away at any time
#   --retries N          how often to resume after an interruption or a lost host that comes before the next checkpoint (default: 3); one that
#                        comes later does not count
#   --keep               leave the slice as it is at the end; the same command uses it again
#   --dry-run            print every command, run none
#
# What is committed in this checkout (HEAD) is what runs. The run on the hosts does not depend on the connection: if that breaks, or this
# script is killed, the same command finds the run and follows it. Ctrl-C, or closing the terminal, saves a checkpoint before the slice goes.
#
# Exit code: that of satjax train. 0: the router is in the workdir. 75: saved, run the same command again. 2: a mistake that you can fix.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

name='' zone='' accelerator='' share=''
runtime='' project='' retries=3 spot='' keep=''
parse_arguments "name zone accelerator share" "runtime project retries" "spot keep" "$@"
check_number retries
check_train_arguments
check_shared_workdir
check_shared_outcomes
config=$(train_value config)
[[ $config == "$SHARE_DIR"/* ]] || answer=$(git -C "$ROOT" cat-file -e "HEAD:${config%%:*}" 2>&1) ||
  die "--config $config is not committed here, and what is committed is what runs${answer:+ ($answer)}"
[[ $share == gs://?* || $share == ?*:/* ]] || die "--share $share: give HOST:/PATH of an NFS export or gs://BUCKET"
if [[ ! $runtime ]]; then
  case $accelerator in
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v[234]-*) runtime=tpu-ubuntu2204-base ;;
    *) die "--accelerator $accelerator: unknown here; name its software with --runtime" ;;
  esac
fi

where=(--zone "$zone" --quiet)
[[ ! $project ]] || where+=(--project "$project")
queue=(gcloud compute tpus queued-resources)
describe=("${queue[@]}" describe "$name" "${where[@]}" --format 'value(state.state)')
POLL_SECONDS=30
# Only the first host prints much: networks forget the silent connections of the others, and of a host without power nobody says goodbye. Without
# these ssh would learn of it after two hours.
ALIVE=(-oServerAliveInterval=30 -oServerAliveCountMax=6)
held='' there=''

# What the queued resource is; ABSENT where there is none, UNKNOWN where nobody answers.
state() {
  local answer
  if answer=$("${describe[@]}" 2>&1); then
    printf '%s\n' "${answer##*$'\n'}"
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo ABSENT
  else
    say "$answer"
    echo UNKNOWN
  fi
}

create() {
  local command=("${queue[@]}" create "$name" --node-id "$name" --accelerator-type "$accelerator" --runtime-version "$runtime" "${where[@]}")
  [[ ! $spot ]] || command+=(--spot)
  run "${command[@]}"
}

delete() { run "${queue[@]}" delete "$name" --force "${where[@]}"; }

# Until the slice is there. What is left of an earlier one makes room first.
obtain() {
  local now created=''
  while now=$(state) && [[ $now != ACTIVE ]]; do
    [[ $now == UNKNOWN ]] || there=''
    case $now in
      ABSENT)
        [[ ! $created ]] || return "$LOST"
        create || return
        created=yes held=yes
        ;;
      FAILED | SUSPENDED)
        [[ ! $created ]] || return "$LOST"
        delete || return
        ;;
      UNKNOWN) [[ $held ]] || return 1 ;; # without a slice to lose: most likely a mistake
      *) held=yes ;;
    esac
    say "$name: $now"
    sleep "$POLL_SECONDS"
  done
  held=yes there=yes
}

# on_hosts LINE: runs a line of shell on all hosts at the same time; what they say goes to the terminal, their verdict is the exit code.
on_hosts() {
  local own
  local ssh=(gcloud compute tpus tpu-vm ssh "$name" --worker all "${where[@]}" "${ALIVE[@]/#/--ssh-flag=}" --command "$1")
  if [[ $dry_run ]]; then
    quoted "${ssh[@]}"
    return
  fi
  # In the background, for signals to be heard meanwhile.
  {
    own=0
    "${ssh[@]}" 2>&1 || own=$?
    echo "$own" >"$scratch/own"
  } | tee "$scratch/log" &
  await $!
  return "$(verdict "$scratch/log" "$(<"$scratch/own")")"
}

install() {
  run git -C "$ROOT" archive --format tar.gz --output "$scratch/satjax.tar.gz" HEAD || return
  run gcloud compute tpus tpu-vm scp "$scratch/satjax.tar.gz" "$name:" --worker all "${where[@]}" "${ALIVE[@]/#/--scp-flag=}" || return "$LOST"
  # Without what an earlier commit left there, which would be built in again.
  on_hosts "mkdir -p satjax && rm -rf satjax/satjax satjax/build satjax/*.egg-info && tar -xzf satjax.tar.gz -C satjax && bash satjax/launch/host.sh install $(quoted "$share")"
}

train() { on_hosts "bash satjax/launch/host.sh train $(quoted "${REST[@]}")"; }

if [[ $dry_run ]]; then
  scratch='/tmp'
  create
  echo "# every $POLL_SECONDS s until it says ACTIVE:"
  quoted "${describe[@]}"
  install
  train
  echo "# after exit code ${RETRY_CODES[*]} or a lost connection: again, at most $retries times without a new checkpoint; where the slice is gone, from the start"
  [[ $keep ]] || delete
  exit
fi

scratch=$(mktemp -d)

# shellcheck disable=SC2329
finish() {
  trap '' INT TERM HUP
  # What was interrupted may be writing there still: that must not keep the slice from being deleted.
  rm -rf "$scratch" || true
  if [[ $held && $keep ]]; then
    say "kept; delete it with: $(quoted "${queue[@]}" delete "$name" --force "${where[@]}")"
  elif [[ $held ]]; then
    delete || say "$name may still be there, and cost money: delete it with: $(quoted "${queue[@]}" delete "$name" --force "${where[@]}")"
  fi
}

# shellcheck disable=SC2329
interrupted() {
  trap '' INT TERM HUP
  if [[ $there ]]; then
    say "interrupted: saving a checkpoint on the hosts"
    on_hosts 'bash satjax/launch/host.sh stop' || true
  fi
  exit "$SAVED"
}

trap finish EXIT
trap interrupted INT TERM HUP

[[ -z $(git -C "$ROOT" status --porcelain) ]] || say "what is not committed is not sent to the hosts"
reached=0 started=''
for ((attempt = 0; ; attempt++)); do
  code=0
  obtain || code=$?
  ((code)) || install || code=$?
  if ((code == 0)); then
    started=yes
    train || code=$?
    # Where an attempt begins tells what the one before it brought, also where that was cut off.
    step=$(sed -n 's/.*satjax-launch: step \([0-9][0-9]*\).*/\1/p' "$scratch/log" | sort -n | tail -n 1)
    ((${step:-0} <= reached)) || reached=$step attempt=0
  fi
  if ((code == TAKEN)); then
    say "$name is not deleted, which would end that run: name another slice, or give the arguments of that run to follow it"
    held=''
    exit 2
  fi
  if ((code == 0)) || ! retryable "$code"; then exit "$code"; fi
  ((attempt < retries)) || break
  say "exit code $code; going on from the last checkpoint (attempt $((attempt + 1)) of $retries)"
  # A host that restarts takes its time. All is installed again in any case: it has lost what was mounted.
  ((code != LOST)) || sleep "$POLL_SECONDS"
done
say "given up after $retries attempts more; the last checkpoint is intact"
# Of a slice that never was nothing is saved.
[[ $started ]] || exit "$code"
exit "$SAVED"
