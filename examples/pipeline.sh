#!/usr/bin/env bash
# SHA-256 of Python's standard library, by four workers and three nodes, while some of them are killed.
#
#   files --> four times `dmq receive files --exec` --> digests --> compared with what sha256sum says
#
# Every regular file below the standard library's directory, what is installed in its site-packages included,
# is a message on `files`. A worker runs sha256sum for each and sends
# `digest  path` to `digests`. In the middle a worker is killed with SIGKILL, then the node that leads `files`;
# a fourth node joins, and the killed one is started again on its data. No other command is needed.
#
# DMQ_DEMO_LIMIT=N takes only N files. Needs `dmq` and `python` in PATH; `make demo` sees to that.

set -euo pipefail

limit=${DMQ_DEMO_LIMIT:-}
workers=4
patience=60 # seconds without progress

for name in $(compgen -v DMQ_); do unset "$name"; done # whoever runs this may have settings of his own
export LC_ALL=C XDG_CONFIG_HOME=/nonexistent
export PYTHONDONTWRITEBYTECODE=1 # or the files that we count would become more

say() { printf '%s\n' "demo: $*" >&2; }
give_up() {
    say "$*"
    sed 's/^/  /' "$dir"/*.log >&2
    exit 1
}

# What a worker does with a message: the path is on stdin. It asks the worker's sender, a `dmq send` that
# reads messages from one pipe and writes the id of each that is stored to another, and so saves starting
# a program for each file. Only then is the message acked. Should this run twice for one message, because
# the worker was killed before the ack, then the second digest has the dedup id of the first, and is dropped.
# shellcheck disable=SC2016
command='
    IFS= read -r path
    line=$(sha256sum -- "$path") || exit
    encoding=utf-8
    case $line in *[!\ -~]*|*[\"\\]*) encoding=base64 line=$(printf %s "$line" | base64 -w0) ;; esac
    {
        printf "{\"body\":\"%s\",\"encoding\":\"%s\",\"dedup_id\":\"%s\"}\n" \
            "$line" "$encoding" "$DMQ_MESSAGE_ID" >"$PIPES.ask"
        read -r id
    } <"$PIPES.told"
'

dir=$(mktemp -d "${TMPDIR:-/tmp}/dmq-demo.XXXXXX")
declare -A nodes=() addresses=()
declare -a receivers=() senders=()

release() {
    # A command whose sender is gone waits for its answer: let it find the end of the file.
    local pipe
    for pipe in "$dir"/*.told; do
        if [[ -p $pipe ]]; then : 3<>"$pipe"; fi
    done
}

clean_up() {
    trap - EXIT
    trap '' INT TERM HUP
    local pid
    for pid in "${receivers[@]}" "${senders[@]}" "${nodes[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${receivers[@]}" "${senders[@]}" "${nodes[@]}"; do
        for _ in {1..100}; do
            release
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    release
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

start_node() { # name, address to listen at, more arguments
    local name=$1 ready="$dir/$1.ready"
    : >"$ready"
    dmq node start --name "$name" --data "$dir/$name" --listen "$2" "${@:3}" >"$ready" 2>>"$dir/$name.log" &
    nodes[$name]=$!
    local since=$SECONDS
    until grep -q '^ready ' "$ready"; do
        kill -0 "${nodes[$name]}" 2>/dev/null || give_up "node $name did not start"
        ((SECONDS - since < patience)) || give_up "node $name was not ready for $patience seconds"
        sleep 0.05
    done
    addresses[$name]=$(awk '{ print $3 }' "$ready")
    # Everybody is told of all nodes, and goes to one that answers.
    DMQ_NODES=$(IFS=,; echo "${addresses[*]}")
    export DMQ_NODES
}

wait_until_healthy() { # every copy is where it should be
    local since=$SECONDS
    until dmq --json cluster status | grep -q '"healthy": *true'; do
        ((SECONDS - since < patience)) || give_up "the cluster was not healthy for $patience seconds"
        sleep 0.2
    done
}

leader() { # queue: who leads it
    local answer
    answer=$(dmq --json queue explain "$1") || return
    python -c 'import json, sys; print(json.load(sys.stdin)["partitions"][0]["leader"])' <<<"$answer"
}

start_worker() { # number
    local pipes="$dir/worker$1"
    mkfifo "$pipes.ask" "$pipes.told"
    dmq send digests --ndjson <"$pipes.ask" >"$pipes.told" 2>>"$dir/worker$1.log" &
    senders+=($!)
    exec {hold}>"$pipes.ask" # the sender goes on as long as this is open
    PIPES=$pipes dmq receive files --follow --exec "$command" 2>>"$dir/worker$1.log" &
    receivers+=($!)
}

end_suddenly() { # pid
    kill -KILL "$1"
    wait "$1" 2>/dev/null || true
}

counted() { # queue, fields: their sum
    local answer
    answer=$(dmq --json queue show "$1") || return # as when it is interrupted: it has said why
    python -c 'import json, sys; q = json.load(sys.stdin); print(sum(q[n] for n in sys.argv[1:]))' "${@:2}" <<<"$answer"
}

wait_until_done() { # how many digests
    local done=-1 before=-1 since=$SECONDS
    while ((done < $1)); do
        ((done < 0)) || sleep 0.3
        done=$(counted digests ready)
        if ((done != before)); then
            before=$done since=$SECONDS
            show "$done"
        fi
        ((SECONDS - since < patience)) || give_up "nothing was done for $patience seconds"
    done
    if [[ -t 2 ]]; then printf '\n' >&2; fi
}

show() { # how many digests
    if [[ -t 2 ]]; then
        printf '\rdemo: %6d of %d digests' "$1" "$total" >&2
    elif ((SECONDS >= shown + 5)); then
        shown=$SECONDS
        say "$1 of $total digests"
    fi
}

# --- the files -------------------------------------------------------------------------------------------

library=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
find "$library" -type f | sort >"$dir/all"
if [[ -n $limit ]]; then head -n "$limit" "$dir/all" >"$dir/paths"; else mv "$dir/all" "$dir/paths"; fi
total=$(wc -l <"$dir/paths")
shown=$SECONDS

say "three nodes of our own, with their data in $dir"
start_node one 127.0.0.1:0
start_node two 127.0.0.1:0 --join "${addresses[one]}"
start_node three 127.0.0.1:0 --join "${addresses[one]}"
dmq --quiet queue create files --visibility 5s
dmq --quiet queue create digests

say "$total files below $library become messages on 'files'"
if [[ -z $limit ]] && ((total > 10000)); then
    say "that takes some minutes, for much is installed there; DMQ_DEMO_LIMIT=5000 takes the first 5000 of them"
fi
dmq send files --lines --quiet <"$dir/paths"

say "$workers workers compute their digests"
for number in $(seq "$workers"); do start_worker "$number"; done

wait_until_done $((total / 4))
wait_until_healthy
say "killing a worker (SIGKILL, process ${receivers[0]}) and starting another"
end_suddenly "${receivers[0]}"
unset "receivers[0]"
start_worker $((workers + 1))

wait_until_done $((total / 2))
victim=$(leader files)
say "killing the node that leads 'files', $victim (SIGKILL, process ${nodes[$victim]}); a fourth joins"
end_suddenly "${nodes[$victim]}"
unset "nodes[$victim]"
for other in "${!nodes[@]}"; do join=${addresses[$other]}; done
start_node four 127.0.0.1:0 --join "$join"

wait_until_done $((total * 3 / 4))
say "starting $victim again on its data"
start_node "$victim" "${addresses[$victim]}"

wait_until_done "$total"
# A killed worker's last messages come again when their visibility ends; their digests are there already.
until (($(counted files ready delayed in_flight) == 0)); do sleep 0.3; done
say "all files are done; the workers may go"
for pid in "${receivers[@]}"; do kill -TERM "$pid"; done
for pid in "${receivers[@]}"; do wait "$pid" || true; done

# --- the comparison --------------------------------------------------------------------------------------

dmq --quiet cluster members >&2
say "comparing: dmq receive digests --all --lines | sort"
dmq receive digests --all --lines --quiet | sort >"$dir/received"
xargs -d '\n' sha256sum -- <"$dir/paths" | sort >"$dir/expected"
if ! diff "$dir/expected" "$dir/received" >"$dir/difference"; then
    head "$dir/difference" >&2
    say "FAILED: $(grep -c '^[<>]' "$dir/difference") lines differ from what sha256sum says"
    exit 1
fi
say "all $(wc -l <"$dir/received") lines are what sha256sum says, in $SECONDS seconds"
