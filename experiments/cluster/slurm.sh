#!/bin/bash
# An experiment on several machines of a Slurm cluster: `sbatch experiments/cluster/slurm.sh FILE.yaml [--set key=value]`.
# After the script in Ray's documentation (docs.ray.io, "Deploying on Slurm"). Not run here: there was no Slurm.
#
# - This folder, with FILE.yaml and runs/, is on a disk that all machines see under one path; the environment with
#   `pip install 'cai[ray]'` too. Locks (flock) must work there as on NFS 4 or Lustre with -o flock; where they do not,
#   a stage whose worker was killed waits three minutes before another one makes it (cai/core/lease.py).
# - The command itself runs on the first machine, and decides by its device what weights are computed in.
# - Keys of served models come from the environment, which srun hands on to all machines.
# - Begun again after its time ran out, it goes on where it was.

#SBATCH --job-name=cai
#SBATCH --nodes=4
#SBATCH --exclusive
#SBATCH --tasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gpus-per-task=8
#SBATCH --time=24:00:00

set -euo pipefail
export RAY_USAGE_STATS_ENABLED=0    # Ray tells nobody anything

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):6379

# One task a machine: the first starts a cluster and runs the command, the others join it, and all end with it.
# One card and eight cores for each stage that computes with a model: 32 stages side by side here.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_PER_TASK" -- \
    python -m cai.experiment "$@" --set runtime.executor=ray --set runtime.ray="$address" \
    --set "runtime.task={cpus: 8, gpus: 1}"
