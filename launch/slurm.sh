#!/usr/bin/env bash
# launch/slurm.sh --name NAME [OPTIONS] -- TRAIN ARGUMENTS
#
# Trains on GPU nodes under SLURM: one process per GPU, which JAX finds automatically. Run it where satjax is on PATH; the checkout, the
# base weights and the workdir have to be on disks that all nodes share. Relative paths count from the checkout.
#
#   launch/slurm.sh --name first --nodes 2 --gpus-per-node 8 -- \
#     --config configs/smollm2.py --config.data.outcomes=outcomes --workdir runs/first
#
#   --name NAME          of the job
#   --nodes N            (default: 1)
#   --gpus-per-node N    (default: 8)
#   --cpus-per-task N    cores of each process, which compiles and reads weights with them (default: 8)
#   --mem SIZE           of a node, as SLURM writes it; 0 is all that it has (default: 0 with 8 GPUs to a node or more, else SLURM's)
#   --time LIMIT         of one run, as SLURM writes it; a checkpoint is saved before it is over (default: 4:00:00)
#   --save-seconds N     how long that may take; it begins a minute earlier still, for the way back into the queue (default: 120)
#   --partition NAME, --account NAME   (default: SLURM's)
#   --retries N          how often the job goes back into the queue after an interruption or a lost node that comes before the next checkpoint
#                        (default: 3); one that comes later, as the time limit does, is not counted
#   --dry-run            print every command, run none
# Whatever else sbatch takes: by its own environment variables (SBATCH_QOS, SBATCH_CONSTRAINT, SBATCH_EXCLUSIVE and so on).
#
# If it stops before training is finished, run the same command: it resumes from the last checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

name='' nodes=1 gpus_per_node=8 cpus_per_task=8 mem='' time=4:00:00 save_seconds=120 partition='' account='' retries=3
parse_arguments "name" "nodes gpus-per-node cpus-per-task mem time save-seconds partition account retries" "" "$@"
check_positive nodes gpus_per_node cpus_per_task save_seconds
check_number retries
check_train_arguments

# Without --gpus-per-task: JAX gives the process of local number i the GPU i, so that every process has to see all of the node. Without
# --cpus-per-task each gets one core, and often the memory that goes with one.
command=(sbatch --job-name "$name" --nodes "$nodes" --ntasks-per-node "$gpus_per_node" --gpus-per-node "$gpus_per_node"
  --cpus-per-task "$cpus_per_task" --time "$time" --signal "B:TERM@$((save_seconds + 60))" --requeue
  --open-mode append --output "$name-%j.log" --chdir "$ROOT")
[[ $mem ]] || ((gpus_per_node < 8)) || mem=0
[[ ! $mem ]] || command+=(--mem "$mem")
[[ ! $partition ]] || command+=(--partition "$partition")
[[ ! $account ]] || command+=(--account "$account")
run "${command[@]}" "$ROOT/launch/slurm_job.sh" "$retries" "${REST[@]}"
