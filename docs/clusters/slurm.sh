#!/bin/bash
#SBATCH --job-name=jaxstyle
#SBATCH --array=0-7
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
# A task renders the shard of its number. Slurm sends SIGTERM 300 s before the time is over: jaxstyle finishes the
# images on the device. Submit the script again to go on, from the folder that has it:
#
#     sbatch slurm.sh /data/photos --style /data/paintings -o /data/stylized
set -eu
export SHARDS=$SLURM_ARRAY_TASK_COUNT
export JAXSTYLE_CACHE=${JAXSTYLE_CACHE:-$HOME/.cache/jaxstyle-$(hostname)} # compiled programs differ between CPUs
exec sh "${SLURM_SUBMIT_DIR:-$(dirname "$0")}/shard.sh" "$@"
