#!/usr/bin/env bash
# Proves on a real one-node SLURM that a set drawn by eight workers, of which some are killed, equals that of one process.
#
# As root on a Debian machine, with vvsbench and its extra slurm installed for PYTHON (default: .venv/bin/python):
#     tests/slurm/prove.sh
# It installs SLURM and munge from Debian's packages if they are missing, starts both with settings of their own in a
# temporary folder, and stops and removes all it started, whatever happens; the packages stay. Ends with PASS or FAIL.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$(realpath -s "${PYTHON:-.venv/bin/python}")
work=$(mktemp -d /var/tmp/vvsbench-slurm.XXXXXX)
export SLURM_CONF=$work/slurm.conf
munge=$work/munge

finish() {
    local code=$?
    trap - EXIT INT TERM
    for name in slurmd slurmctld munged; do
        if [[ -s $work/$name.pid ]]; then stop "$(cat "$work/$name.pid")"; fi
    done
    if ((code)); then tail -n 20 "$work"/*.log >&2 || true; fi
    rm -rf "$work"
    if ((code)); then echo "FAIL"; else echo "PASS"; fi
    exit "$code"
}

stop() { # a daemon, and wait until it is gone
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 50); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
    kill -KILL "$1" 2>/dev/null || true
}

trap finish EXIT
trap 'exit 130' INT TERM
[[ $(id -u) = 0 ]] || { echo "this needs root: it installs packages and starts daemons" >&2; exit 2; }

if ! command -v slurmctld slurmd sbatch munged >/dev/null; then
    echo "installing slurmctld, slurmd, slurm-client and munge"
    apt-get update -qq >"$work/apt.log" 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurmctld slurmd slurm-client munge >>"$work/apt.log" 2>&1
fi

mkdir -m 700 "$munge" "$work/state" "$work/spool"
chmod 755 "$work"
(umask 077 && head -c 1024 /dev/urandom >"$munge/key")
chmod 711 "$munge"
node=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=proof
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$munge/socket
CryptoType=crypto/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=proof Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF

munged --force --key-file="$munge/key" --socket="$munge/socket" --pid-file="$work/munged.pid" \
    --log-file="$work/munged.log" --seed-file="$munge/seed"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 100); do
    if [[ $(sinfo --noheader --format=%t 2>/dev/null) = idle ]]; then break; fi
    sleep 0.2
done
sinfo
"$python" tests/slurm/prove.py "$work/study"
