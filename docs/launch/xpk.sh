#!/usr/bin/env bash
# A run on Google Kubernetes Engine through xpk, on TPU slices.
#
#   PROJECT=... ZONE=us-west4-a CLUSTER=demo TYPE=v5litepod-16 docs/launch/xpk.sh create
#   (the same variables, NAME=run-1 and IMAGE=...) docs/launch/xpk.sh launch --gin_file=... --gin.MODEL_DIR=gs://...
#   (the same variables) docs/launch/xpk.sh watch | stop | delete
set -euo pipefail

: "${PROJECT:?the project}" "${ZONE:?the zone}" "${CLUSTER:?the name of the cluster}"
verb=${1:?create, launch, watch, stop or delete}
shift
place=(--cluster="$CLUSTER" --project="$PROJECT" --zone="$ZONE")
slices=${SLICES:-1}

case $verb in
  create)
    xpk cluster create "${place[@]}" --tpu-type="${TYPE:?such as v5litepod-16}" \
      --num-slices="$slices" "${CAPACITY:---spot}"
    ;;
  launch)
    printf -v arguments '%q ' "$@"
    # A workload that is taken away is started again, and goes on from its newest checkpoint.
    xpk workload create "${place[@]}" --workload="${NAME:?the name of the run}" \
      --tpu-type="${TYPE:?such as v5litepod-16}" --num-slices="$slices" \
      --docker-image="${IMAGE:?an image with t5x-like[tpu,gcs]}" --max-restarts=100 \
      --command="t5x-like train $arguments"
    ;;
  watch)
    xpk workload list "${place[@]}"
    kubectl logs --follow --tail=50 --selector="jobset.sigs.k8s.io/jobset-name=${NAME:?the name of the run}"
    ;;
  stop)
    xpk workload delete "${place[@]}" --workload="${NAME:?the name of the run}"
    ;;
  delete)
    xpk cluster delete "${place[@]}"
    ;;
  *)
    echo "unknown verb $verb" >&2
    exit 2
    ;;
esac
