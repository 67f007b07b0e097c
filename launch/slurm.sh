#!/usr/bin/env bash
# Train on several machines under Slurm:
#   sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh --run.dir runs/conll2003 --config launch/recipes/conll2003.yaml
# One launcher a node; all arguments go to nerloop.train. --run.dir must be on storage that all nodes share. Two minutes
# before the time limit Slurm sends SIGUSR1 to this script: all processes finish their step and save, and the job is put
# back into the queue. What happens next is read from the run's status.json, not from exit codes: "interrupted" goes back
# into the queue and on from its checkpoint, "done" ends well, anything else is a failure that trying again won't mend.
#SBATCH --job-name=nerloop
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out

set -euo pipefail

nodes=${SLURM_JOB_NUM_NODES:?start this script with sbatch}
gpus_per_node=${SLURM_GPUS_ON_NODE:-1}
hosts=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?}")
head_node=${hosts%%$'\n'*}

run_dir=
previous=
for argument in "$@"; do
    case $argument in --run.dir=*) run_dir=${argument#*=} ;; esac
    if [ "$previous" = --run.dir ]; then run_dir=$argument; fi
    previous=$argument
done
if [ -z "$run_dir" ]; then
    echo "launch/slurm.sh: found no --run.dir, expected one: a job that is requeued has to find its run again" >&2
    exit 2
fi

before=$(cat "$run_dir/status.json" 2>/dev/null || true)

# SLURM_NODEID is each task's own, so it must be read on the node and not here.
srun bash -c '
    exec accelerate launch --config_file launch/multi_node.yaml \
        --num_machines "$0" --num_processes "$1" --main_process_ip "$2" --main_process_port "$3" \
        --machine_rank "$SLURM_NODEID" -m nerloop.train "${@:4}"
' "$nodes" "$((nodes * gpus_per_node))" "$head_node" "${MASTER_PORT:-29500}" "$@" --run.resume auto &
step=$!

# The launchers hand SIGTERM on to their processes and wait for them; srun itself would be ended by it.
ask_to_stop() {
    echo "launch/slurm.sh: asking the run to save and stop"
    scancel --signal=TERM "${SLURM_JOB_ID:?}.${SLURM_STEP_ID:-0}" || true
}
trap ask_to_stop USR1 TERM

code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do # a trap ends `wait`, not the step
    code=0
    wait "$step" || code=$?
done

if [ "$code" -ne 0 ] && [ "$(cat "$run_dir/status.json" 2>/dev/null || true)" = "$before" ]; then
    echo "launch/slurm.sh: the run ended before it began; see its message above" >&2
    exit $((code == 0 ? 1 : code))
fi
state=$(sed -n 's/.*"state": "\([a-z]*\)".*/\1/p' "$run_dir/status.json" 2>/dev/null || true)
echo "launch/slurm.sh: the run is $state"
case $state in
    done) ;;
    interrupted) scontrol requeue "$SLURM_JOB_ID" ;;
    *) exit $((code == 0 ? 1 : code)) ;;
esac
