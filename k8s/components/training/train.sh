#!/bin/sh
# One node of a run. Evicted or lost, a pod comes back and goes on from the last checkpoint, to the
# same bits.
set -eu
: "${NODES:=${PET_NNODES:-1}}" "${PROCESSES:=${PET_NPROC_PER_NODE:-1}}" # as Kubeflow Trainer says it
: "${NODE:=${PET_NODE_RANK:-0}}" "${LEADER:=${PET_MASTER_ADDR:-localhost}}"
run=/runs/$AFFECTGAN_RUN
if [ -e "$run/checkpoint.safetensors" ]; then
  set -- --resume "$run"
else
  set -- --data /database --labels "$AFFECTGAN_LABELS" --out "$run"
fi
# Of several nodes each ends when one is lost, and all come back together: torchrun counts restarts
# on each node for itself, and nodes with different counts wait for each other in vain.
restarts=3
[ "$NODES" = 1 ] || restarts=0
python -m torch.distributed.run --nnodes "$NODES" --nproc-per-node "$PROCESSES" --node-rank "$NODE" \
  --master-addr "$LEADER" --master-port 29400 --max-restarts $restarts -m affect.cli train "$@"
[ "$NODE" = 0 ] || exit 0
affectgan evaluate "$run"
affectgan push "$run" "$AFFECTGAN_PUSH"
