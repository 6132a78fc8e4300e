# corral status: what runs, and does the pool answer.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

command_status() {
    local name pid running=0 dead=0 summary
    state_require
    printf 'state      %s\n' "$state"
    for name in poold $(host_names); do
        if pid=$(daemon_pid "$name"); then
            running=$((running + 1))
            printf '%-10s runs, pid %s, port %s\n' "$name" "$pid" "$(status_port "$name")"
        else
            dead=$((dead + 1))
            printf '%-10s does not run\n' "$name"
        fi
    done
    if [ "$running" -eq 0 ]; then
        exit 3
    fi
    if summary=$(pool_ask --timeout 5 summary 2>&1); then
        local hosts live guests
        hosts=$(sed -n 's/^hosts=//p' <<<"$summary")
        live=$(sed -n 's/^live=//p' <<<"$summary")
        guests=$(sed -n 's/^guests=//p' <<<"$summary")
        printf 'pool       answers: %s of %s hosts live, %s guests running\n' "$live" "$hosts" "$guests"
        sed -n "s|^away=|           does not answer: host |p" <<<"$summary"
        [ "$live" = "$hosts" ] || printf '           why: %s, or xe host-doctor\n' "$state/log/poold.log"
        [ "$dead" -eq 0 ] && [ "$live" = "$hosts" ] || exit 1
    else
        printf 'pool       %s\n' "$(tail -n 1 <<<"$summary")"
        exit 1
    fi
}

status_port() {
    case $1 in
    poold) pool_port ;;
    hostd-*) cat "$state/hosts/${1#hostd-}/hostd.port" 2>/dev/null || echo unknown ;;
    esac
}
