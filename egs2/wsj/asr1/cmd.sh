# Where jobs run. Sourced by asr.sh, which runs its jobs as
#   ${train_cmd} [options] JOB=1:<number of jobs> <log> <command...>
# `python3 -m espnet_ensemble.bin.submit --help` explains the options.
# shellcheck shell=bash

# local: on this machine
# slurm: on a SLURM cluster, as conf/slurm.conf says; adapt its partitions to yours
cmd_backend=${cmd_backend:-local}

case "${cmd_backend}" in
    local)
        export train_cmd="run.pl"   # all that is not one of the following
        export cuda_cmd="run.pl"    # training, and what else may use a GPU; gets --gpu
        export decode_cmd="run.pl"  # decoding without a GPU
        ;;
    slurm)
        # Options that all jobs of a kind need go here, such as "slurm.pl --mem 4G".
        export train_cmd="slurm.pl"
        export cuda_cmd="slurm.pl"
        export decode_cmd="slurm.pl"
        ;;
    *)
        echo "cmd.sh: cmd_backend: expected local or slurm, found '${cmd_backend}'. Another" \
            "one needs a case in cmd.sh, and a program in utils/ that takes what run.pl takes." >&2
        return 1
        ;;
esac
