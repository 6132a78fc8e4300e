# corral down: stops the daemons of a pool; the guests' processes are not theirs to end.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

command_down() {
    local log name count=0
    state_require
    log=$state/log/up.log
    state_lock
    if $guests; then
        daemon_pid poold >/dev/null ||
            fail "the server does not run, so guests cannot be shut down: './$corral_program up' first"
        stage "guests" "$log" down_guests
    fi
    for name in poold $(host_names); do
        if daemon_pid "$name" >/dev/null; then
            count=$((count + 1))
        fi
    done
    if [ "$count" -eq 0 ]; then
        say "Nothing was changed: no daemon of $state runs."
        return
    fi
    stage "daemons ($count)" "$log" down_daemons
}

down_guests() {
    local count
    count=$(pool_ask stop-guests 60)
    echo "$count"
    remark "$(tail -n 1 <<<"$count") shut down"
}

# The agents first: the server notes that they left, and takes no guest for lost.
down_daemons() {
    local name
    for name in $(host_names) poold; do
        daemon_stop "$name" 20
    done
}
