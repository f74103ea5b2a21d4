#!/usr/bin/env bash
# launch/slurm_job.sh RETRIES TRAIN ARGUMENTS
#
# The job that launch/slurm.sh submits: `satjax train` once to a task; back into the queue where that helps.
# SLURM runs a copy of this script that lies elsewhere; --chdir says where the checkout is.
# shellcheck source=common.sh
source launch/common.sh

retries=$1
shift
REST=("$@")
# Restarts are counted from the last one that found a new checkpoint: its job, step and number are kept in the workdir.
kept=$(train_value workdir)/.slurm step=$(newest_step "$(train_value workdir)") restarts=${SLURM_RESTART_COUNT:-0} job='' found=0 counted_from=0
[[ ! -e $kept ]] || read -r job found counted_from <"$kept" || true
[[ $job == "$SLURM_JOB_ID" ]] || found=0 counted_from=0
if ((step > found)); then
  counted_from=$restarts
  echo "$SLURM_JOB_ID $step $counted_from" >"$kept" || true
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" || true' EXIT
# Some minutes before the time limit SLURM signals this shell alone: the tasks hear of it from here. A controller that is busy is asked again; a
# command that fails in a trap would end this script, and with it the way back into the queue.
# shellcheck disable=SC2329
save() { insist scancel --signal TERM "$SLURM_JOB_ID" || say "scancel fails: the tasks end without a checkpoint of their last steps"; }
trap save TERM

# The signal reaches the shell of a task as well, which has to stay until satjax has saved.
# shellcheck disable=SC2016
task='trap : TERM; "$@"; code=$?; echo "satjax-launch: exit $code"; exit "$code"'

# In the background, for signals to be heard meanwhile. The first task that has saved must not end the others. srun gives a task more than one
# core only where it is told so itself.
{
  code=0
  srun --kill-on-bad-exit=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c "$task" task satjax train "$@" 2>&1 || code=$?
  echo "$code" >"$scratch/own"
} | tee "$scratch/log" &
await $!

code=$(verdict "$scratch/log" "$(<"$scratch/own")")
if ((code == 0)) || ! retryable "$code"; then exit "$code"; fi
if ((restarts - counted_from < retries)); then
  say "exit code $code; back into the queue, to go on from the last checkpoint (attempt $((restarts - counted_from + 1)) of $retries)"
  insist scontrol requeue "$SLURM_JOB_ID" || {
    say "scontrol fails: run the same command again"
    exit "$SAVED"
  }
  exit "$code"
fi
say "given up after $retries attempts more; the last checkpoint is intact"
exit "$SAVED"
