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
#   --time LIMIT         of one run, as SLURM writes it; a checkpoint is saved two minutes before it is over (default: 4:00:00)
#   --partition NAME, --account NAME   (default: SLURM's)
#   --retries N          how often the job goes back into the queue after its time limit, an interruption or a lost node (default: 3)
#   --dry-run            print every command, run none
#
# If it stops before training is finished, run the same command: it resumes from the last checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

name='' nodes=1 gpus_per_node=8 time=4:00:00 partition='' account='' retries=3
parse_arguments "name" "nodes gpus-per-node time partition account retries" "" "$@"
check_positive nodes gpus_per_node
check_number retries
check_train_arguments

# Without --gpus-per-task: JAX gives the process of local number i the GPU i, so that every process has to see all of the node.
command=(sbatch --job-name "$name" --nodes "$nodes" --ntasks-per-node "$gpus_per_node" --gpus-per-node "$gpus_per_node" --time "$time"
  --signal B:TERM@120 --requeue --open-mode append --output "$name-%j.log" --chdir "$ROOT")
[[ ! $partition ]] || command+=(--partition "$partition")
[[ ! $account ]] || command+=(--account "$account")
run "${command[@]}" "$ROOT/launch/slurm_job.sh" "$retries" "${REST[@]}"
