#!/usr/bin/env bash
# Train on several machines under Slurm:
#   sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh --config launch/recipes/conll2003.yaml --run.dir runs/conll2003
# One launcher a node; all arguments go to nerloop.train. Give --run.dir (on shared storage): a job that is requeued goes
# on from its last whole checkpoint.
#SBATCH --job-name=nerloop
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%j.out

set -euo pipefail

nodes=${SLURM_JOB_NUM_NODES:?start this script with sbatch}
gpus_per_node=${SLURM_GPUS_ON_NODE:-1}
hosts=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?}")
head_node=${hosts%%$'\n'*}
resume=()
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
    resume=(--run.resume auto)
fi

# SLURM_NODEID is each task's own, so it must be read on the node and not here.
srun --kill-on-bad-exit=1 bash -c '
    exec accelerate launch --config_file launch/multi_node.yaml \
        --num_machines "$0" --num_processes "$1" --main_process_ip "$2" --main_process_port "$3" \
        --machine_rank "$SLURM_NODEID" -m nerloop.train "${@:4}"
' "$nodes" "$((nodes * gpus_per_node))" "$head_node" "${MASTER_PORT:-29500}" "$@" ${resume[@]+"${resume[@]}"}
