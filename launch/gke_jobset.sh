#!/usr/bin/env bash
# launch/gke_jobset.sh --name NAME --image IMAGE --accelerator NAME --topology TOPOLOGY --share SHARE [OPTIONS] -- TRAIN ARGUMENTS
#
# Trains on TPU slices of a GKE cluster, as a JobSet (launch/jobset.yaml); needs kubectl here and JobSet 0.6 or later in the cluster.
#
#   launch/gke_jobset.sh --name first --image REGISTRY/satjax:tpu --accelerator tpu-v6e-slice --topology 4x4 --share 10.0.0.2:/satjax -- \
#     --config configs/smollm2.py --config.data.outcomes=/mnt/satjax/outcomes --workdir /mnt/satjax/runs/first
#
#   --name NAME            of the JobSet
#   --image IMAGE          made from launch/Dockerfile with `--build-arg EXTRA=tpu`
#   --accelerator NAME     the nodes' label cloud.google.com/gke-tpu-accelerator: tpu-v6e-slice, tpu-v5-lite-podslice and so on
#   --topology TOPOLOGY    their label cloud.google.com/gke-tpu-topology: 4x4, 2x2x4 and so on
#   --share SHARE          mounted at /mnt/satjax in every pod: an NFS export HOST:/PATH (Filestore, say), or a bucket gs://NAME. A checkpoint
#                          is finished by renaming its directory: in a bucket that is one step only with a hierarchical namespace
#   --slices N             (default: 1); the pods of several wait an hour for each other, unless satjax gets another --join-timeout
#   --chips-per-host N     (default: 4)
#   --spot                 on spot nodes only. A preempted one leaves its pods some 15 seconds, whatever --save-seconds says: where saving takes
#                          longer, the steps since the last checkpoint are lost; choose --config.checkpoint.every_steps by how many may be
#   --service-account NAME, --namespace NAME   in Kubernetes; a bucket needs an account that may write to it (default: default)
#   --retries N            restarts after an interruption or a lost host, however much was done before it (default: 3)
#   --save-seconds N       how long saving a checkpoint may take when a pod is asked to end (default: 120), other than by a preemption
#   --dry-run              print every command, the JobSet with it, run none
#
# If it stops before training is finished, delete the JobSet and run the same command: it resumes from the last checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

name='' image='' accelerator='' topology='' share=''
slices=1 chips_per_host=4 service_account=default namespace=default retries=3 save_seconds='' spot=''
parse_arguments "name image accelerator topology share" "slices chips-per-host service-account namespace retries save-seconds" "spot" "$@"
asked=$save_seconds save_seconds=${save_seconds:-120}
check_positive slices chips_per_host save_seconds
check_number retries
check_train_arguments
check_shared_workdir
check_shared_outcomes
join_slices "$slices"
[[ $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*)+$ ]] || die "--topology $topology: give it as 4x4 or 2x2x4"
chips=$((${topology//x/*}))
((chips % chips_per_host == 0)) || die "--topology $topology: $chips chips are no multiple of --chips-per-host $chips_per_host"

for word in "$name" "$image" "$accelerator" "$share" "$service_account" "$namespace" "${REST[@]}"; do
  [[ ${word//[$'\n\t\r']/} != *[[:cntrl:]]* ]] || die "control characters cannot be passed on: ${word@Q}"
done

# json WORD...: as JSON strings, which are YAML too.
json() {
  local word line=''
  for word in "$@"; do
    word=${word//\\/\\\\} word=${word//\"/\\\"} word=${word//$'\n'/\\n} word=${word//$'\t'/\\t} word=${word//$'\r'/\\r}
    line+=", \"$word\""
  done
  printf '%s' "${line:2}"
}

case $share in
  gs://?*)
    # "0" is no limit: what mounts the bucket holds a part of every file that is being written, and is killed where its memory ends.
    annotations='"gke-gcsfuse/volumes": "true"'
    for limit in cpu memory ephemeral-storage; do annotations+=", \"gke-gcsfuse/$limit-limit\": \"0\""; done
    attributes="{\"bucketName\": $(json "${share#gs://}"), \"mountOptions\": \"implicit-dirs,rename-dir-limit=100000\"}"
    volume="{\"name\": \"share\", \"csi\": {\"driver\": \"gcsfuse.csi.storage.gke.io\", \"volumeAttributes\": $attributes}}"
    ;;
  ?*:/*)
    annotations=''
    volume="{\"name\": \"share\", \"nfs\": {\"server\": $(json "${share%%:*}"), \"path\": $(json "${share#*:}")}}"
    ;;
  *) die "--share $share: give HOST:/PATH of an NFS export or gs://BUCKET" ;;
esac
nodes="{\"cloud.google.com/gke-tpu-accelerator\": $(json "$accelerator"), \"cloud.google.com/gke-tpu-topology\": $(json "$topology")"
[[ ! $spot ]] || nodes+=', "cloud.google.com/gke-spot": "true"'

declare -A value=(
  [NAME]=$(json "$name") [NAMESPACE]=$(json "$namespace") [IMAGE]=$(json "$image") [SERVICE_ACCOUNT]=$(json "$service_account")
  [RETRIES]=$retries [SAVE_SECONDS]=$save_seconds [SLICES]=$slices [HOSTS]=$((chips / chips_per_host)) [CHIPS]=$chips_per_host
  [RETRY_CODES]="[$(IFS=,; printf '%s' "${RETRY_CODES[*]}")]" [ANNOTATIONS]="{$annotations}" [SHARE]=$volume [NODES]="$nodes}"
  # Kubernetes reads $(NAME) in arguments, and $$ as one dollar.
  [ARGUMENTS]="[$(json "${REST[@]//\$/\$\$}")]"
)
jobset=''
while IFS= read -r line; do
  if [[ $line =~ __([A-Z_]+)__ ]]; then
    line=${line/"${BASH_REMATCH[0]}"/"${value[${BASH_REMATCH[1]}]}"}
  fi
  [[ $line == \#* ]] || jobset+=$line$'\n'
done <"$ROOT/launch/jobset.yaml"

[[ ! $spot || ! $asked ]] || ((asked <= 15)) || say "--save-seconds $asked is more than a preempted spot node gives, some 15 seconds (see --help)"
if [[ $dry_run ]]; then
  printf "kubectl create --filename - <<'JOBSET'\n%sJOBSET\n" "$jobset"
else
  kubectl create --filename - <<<"$jobset"
fi
say "follow it: $(quoted kubectl --namespace "$namespace" logs --follow --selector "jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0")"
say "delete it: $(quoted kubectl --namespace "$namespace" delete jobset "$name")"
