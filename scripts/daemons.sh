# Background processes with pid files. A pid file holds the pid, the process's start time and the
# boot's id, so that another process that got the same pid later is never taken for it.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# Start time of a process in clock ticks since boot: field 22 of its stat line, the 20th behind
# its name, which may hold blanks and brackets.
process_start() {
    local line fields
    line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -r -a fields <<<"${line##*) }"
    # A zombie has ended.
    [ "${fields[0]}" != Z ] && echo "${fields[19]}"
}

# daemon_pid NAME: its pid, when it runs.
daemon_pid() {
    local pid started boot
    read -r pid started boot 2>/dev/null <"$state/run/$1.pid" || return 1
    [ "$boot" = "$(boot_id)" ] && [ "$(process_start "$pid")" = "$started" ] || return 1
    echo "$pid"
}

# daemon_start NAME COMMAND...: in a session of its own, output to its log.
daemon_start() {
    local name=$1 log=$state/log/$1.log pid started
    shift
    if [ -s "$log" ] && [ "$(stat -c %s "$log")" -gt 10485760 ]; then
        mv "$log" "$log.1"
    fi
    (
        cd /
        # The locks and the remarks of this script are not the daemon's.
        exec setsid "$@" 3>&- 8>&- 9>&-
    ) >>"$log" 2>&1 </dev/null &
    pid=$!
    disown "$pid"
    started=$(process_start "$pid") || {
        daemon_failed "$name" "it ended at once"
        return 1
    }
    echo "$pid $started $(boot_id)" >"$state/run/$name.pid.new"
    mv "$state/run/$name.pid.new" "$state/run/$name.pid"
}

daemon_failed() {
    echo "$1: $2; the end of its log ($state/log/$1.log):"
    tail -n 15 "$state/log/$1.log" | sed 's/^/  | /'
}

# daemon_wait NAME FILE SECONDS: until it has written FILE, its sign that it answers.
daemon_wait() {
    local name=$1 file=$2 end=$((SECONDS + $3))
    until [ -s "$file" ]; do
        daemon_pid "$name" >/dev/null || {
            daemon_failed "$name" "it ended instead of answering"
            return 1
        }
        ((SECONDS < end)) || {
            daemon_failed "$name" "no answer within $3 s"
            return 1
        }
        sleep 0.05
    done
}

# daemon_stop NAME SECONDS: SIGTERM, and SIGKILL when that is not followed in time.
daemon_stop() {
    local name=$1 end=$((SECONDS + $2)) pid
    if pid=$(daemon_pid "$name"); then
        kill "$pid"
        while daemon_pid "$name" >/dev/null; do
            if ((SECONDS >= end)); then
                echo "$name did not stop within $2 s: killed"
                kill -KILL "$pid" 2>/dev/null || true
                end=$((SECONDS + 10))
            fi
            sleep 0.05
        done
    fi
    rm -f "$state/run/$name.pid"
}
