#!/usr/bin/env bash
# launch/gke_xpk.sh --name NAME --cluster CLUSTER --tpu-type TYPE --image IMAGE --storage STORAGE [OPTIONS] -- TRAIN ARGUMENTS
#
# Trains on TPU slices of a GKE cluster through XPK, which makes a JobSet from it; launch/gke_jobset.sh does without XPK.
#
#   launch/gke_xpk.sh --name first --cluster pod --tpu-type v6e-16 --image REGISTRY/satjax:tpu --storage share -- \
#     --config configs/smollm2.py --config.data.outcomes=/mnt/satjax/outcomes --workdir /mnt/satjax/runs/first
#
#   --name NAME          of the workload
#   --cluster CLUSTER
#   --tpu-type TYPE      v6e-16, v5litepod-16 and so on
#   --image IMAGE        made from launch/Dockerfile with `--build-arg EXTRA=tpu --build-arg RUN_AS=0`
#   --storage STORAGE    a storage of the cluster (`xpk storage attach`) whose mount point is /mnt/satjax
#   --slices N           (default: 1); the pods of several wait an hour for each other, unless satjax gets another --join-timeout
#   --zone ZONE, --project PROJECT   (default: gcloud's)
#   --retries N          restarts after an interruption or a lost host, however much was done before it (default: 3)
#   --save-seconds N     how long saving a checkpoint may take when a pod is asked to end (default: 120). A preempted spot node leaves its pods
#                        some 15 seconds all the same: choose --config.checkpoint.every_steps by how many steps may be lost
#   --dry-run            print every command, run none
#
# If it stops before training is finished (exit code 75, or more restarts than --retries), delete the workload and run the same command: it
# resumes from the last checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

name='' cluster='' tpu_type='' image='' storage=''
slices=1 zone='' project='' retries=3 save_seconds=120
parse_arguments "name cluster tpu-type image storage" "slices zone project retries save-seconds" "" "$@"
check_positive slices save_seconds
check_number retries
check_train_arguments
check_shared_workdir
check_shared_outcomes
join_slices "$slices"

where=(--cluster "$cluster")
[[ ! $zone ]] || where+=(--zone "$zone")
[[ ! $project ]] || where+=(--project "$project")
codes=$(IFS=,; printf '%s' "${RETRY_CODES[*]}")

# Kubernetes reads $(NAME) in the container's command, which XPK makes of this line, and $$ as one dollar.
arguments=$(quoted "${REST[@]}")

# `exec`: XPK sends SIGTERM to the process that it started, which has to be satjax for a checkpoint to be saved. The features that the LLM has read
# from the instructions outlive the pod, whose cache goes with it.
run xpk workload create --workload "$name" "${where[@]}" --tpu-type "$tpu_type" --num-slices "$slices" --docker-image "$image" \
  --storage "$storage" --max-restarts "$retries" --restart-on-exit-codes "$codes" --termination-grace-period-seconds "$save_seconds" \
  --command "exec env SATJAX_FEATURES=$SHARE_DIR/features satjax train ${arguments//\$/\$\$}"
say "follow it: $(quoted xpk workload list "${where[@]}" --filter-by-job "$name")"
say "delete it: $(quoted xpk workload delete "${where[@]}" --workload "$name")"
