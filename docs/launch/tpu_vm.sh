#!/usr/bin/env bash
# A run on a TPU VM slice, one host or many. Each verb may be repeated.
#
#   NAME=demo ZONE=us-west4-a TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite docs/launch/tpu_vm.sh create
#   NAME=demo ZONE=us-west4-a docs/launch/tpu_vm.sh install
#   NAME=demo ZONE=us-west4-a docs/launch/tpu_vm.sh launch --gin_file=... --gin.MODEL_DIR=gs://...
#   NAME=demo ZONE=us-west4-a docs/launch/tpu_vm.sh watch | stop | delete
set -euo pipefail

: "${NAME:?the name of the slice}" "${ZONE:?its zone}"
verb=${1:?create, install, launch, watch, stop or delete}
shift

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

case $verb in
  create)
    # In a queue until there is room; a Spot slice is cheaper and may be taken away.
    gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
      --accelerator-type="${TYPE:?such as v5litepod-16}" \
      --runtime-version="${VERSION:?such as v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
    ;;
  install)
    rm -rf build/launch
    python3 -m pip wheel --quiet --no-deps --wheel-dir build/launch .
    gcloud compute tpus tpu-vm scp build/launch/*.whl "$NAME:" --zone="$ZONE" --worker=all
    # The image's own Python may be too old: uv brings one.
    on_all_hosts 'python3 -m pip install --quiet --user uv &&
      ~/.local/bin/uv venv --quiet --clear --python 3.12 ~/t5x &&
      ~/.local/bin/uv pip install --quiet --python ~/t5x/bin/python "$(ls ~/t5x_like-*.whl)[tpu,gcs]"'
    ;;
  launch)
    # Started again, the same command goes on from the newest checkpoint.
    printf -v arguments '%q ' "$@"
    on_all_hosts "setsid nohup ~/t5x/bin/t5x-like train $arguments >> ~/train.log 2>&1 < /dev/null &
      echo \$! > ~/train.pid"
    ;;
  watch)
    gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 --command='tail -n 50 -f ~/train.log'
    ;;
  stop)
    # One process is enough: all of them save after the same step and exit with 143.
    gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 \
      --command='kill -TERM "$(cat ~/train.pid)"'
    ;;
  delete)
    gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
    ;;
  *)
    echo "unknown verb $verb" >&2
    exit 2
    ;;
esac
