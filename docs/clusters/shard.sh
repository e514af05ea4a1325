#!/bin/sh
# Renders one shard: the number of a Slurm array's task or of a Kubernetes job's pod, of SHARDS in all.
#
#     SHARDS=8 sh shard.sh photos --style paintings -o stylized
#
# It passes SIGTERM on, at which jaxstyle finishes the images on the device and ends; the same command goes on later.
# Exit code 0 also where some inputs failed (3), which another try would not mend: the manifest has the reasons.
set -u
index=${SLURM_ARRAY_TASK_ID:-${JOB_COMPLETION_INDEX:?neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set}}
: "${SHARDS:?SHARDS is not set: the number of tasks, whose indices begin at 0}"

trap 'kill -TERM "$child" 2>/dev/null' TERM INT
jaxstyle render "$@" --shard "$((index + 1))/$SHARDS" &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ended the wait; jaxstyle is finishing
    wait "$child"
    code=$?
done
[ "$code" -eq 3 ] && exit 0
exit "$code"
