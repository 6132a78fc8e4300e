# Words to the person at the terminal: failures, and stages with the time that they took.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${corral_program:-corral}" "$*" >&2
    exit 2
}

# stage TITLE LOG FUNCTION [ARGUMENTS]: one line that shows TITLE and how long FUNCTION took.
# Its output goes to LOG; at a terminal the line follows it. A stage runs in a process of its own
# and so cannot set variables here. What it writes to descriptor 3 becomes the line's remark. A
# failure ends the script: as `stage ... || ...` the shell would not stop at FUNCTION's first error.
stage_process=
stage() {
    local title=$1 log=$2 started=${EPOCHREALTIME/[.,]/} rc=0 remark_file
    shift 2
    mkdir -p "$(dirname "$log")"
    printf '\n=== %s, %s ===\n' "$title" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$log"
    remark_file=$(mktemp)
    [ -t 1 ] || printf '%-28s ' "$title"
    (
        set -e
        "$@"
    ) >>"$log" 2>&1 3>"$remark_file" </dev/null &
    stage_process=$!
    trap 'stage_interrupted' INT TERM HUP
    while [ -t 1 ] && kill -0 "$stage_process" 2>/dev/null; do
        printf '\r\033[K%-28s %3d s  %s' "$title" $(((${EPOCHREALTIME/[.,]/} - started) / 1000000)) "$(stage_detail "$log")"
        sleep 0.2
    done
    wait "$stage_process" || rc=$?
    stage_process=
    trap - INT TERM HUP
    [ -t 1 ] && printf '\r\033[K%-28s ' "$title"
    if [ "$rc" -eq 0 ]; then
        printf '%5.1f s  %s\n' "$(stage_seconds "$started")" "$(cat "$remark_file")"
    else
        printf 'FAILED after %.1f s\n' "$(stage_seconds "$started")"
        # shellcheck disable=SC2016  # sed's own $
        sed -n '/^=== /h;/^=== /!H;${x;p;}' "$log" | tail -n +2 | tail -n 25 | sed 's/^/    /' >&2
        printf '%s: %s: failed; the last lines are above, all of them in %s\n' "$corral_program" "$title" "$log" >&2
    fi
    rm -f "$remark_file"
    [ "$rc" -eq 0 ] || exit 1
}

stage_seconds() {
    local micro=$((${EPOCHREALTIME/[.,]/} - $1))
    printf '%d.%d' $((micro / 1000000)) $((micro / 100000 % 10))
}

# The last line of a log, without what would garble a terminal, cut to its width.
stage_detail() {
    local width=$((${COLUMNS:-80} - 40))
    tail -c 400 "$1" | tr -d '\000-\010\013-\037\177' | tail -n 1 | cut -c "1-$width"
}

stage_interrupted() {
    trap - INT TERM HUP
    [ -z "$stage_process" ] || kill "$stage_process" 2>/dev/null || true
    printf '\n%s: interrupted\n' "$corral_program" >&2
    exit 130
}

remark() { printf '%s' "$*" >&3; }
