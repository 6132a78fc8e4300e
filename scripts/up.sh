# corral up: from a bare machine to a pool that answers. Each step looks first whether there is
# anything to do; what it did is noted by `changed`, and a second call that notes nothing says so.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

app_programs=(poold hostd corral-launch corral-diskview.so xe build-debian corral-guest)

changed() { echo "$*" >>"$state/run/changed"; }

command_up() {
    local missing log
    state_find
    state_check
    [ -z "$build" ] || [ -x "$build/bin/poold" ] || fail "up: --build $build: there is no poold in its folder bin"
    if as_root; then
        missing=$(state_users_missing | xargs)
        if [ -n "$missing" ]; then
            say "Making system users: $missing ($pool_user runs the server, $qemu_user the guests)"
            # shellcheck disable=SC2086  # a list of names
            state_make_users $missing
        fi
    fi
    state_make
    log=$state/log/up.log
    state_lock
    : >"$state/run/changed"
    up_settings

    if [ -z "$build" ]; then
        packages_ensure "$log" build run
        build=$corral_root/build/release
        stage "build" "$log" build_release
    else
        build=$(realpath -- "$build")
    fi
    stage "tiny Linux" "$log" up_image
    stage "Debian installer" "$log" up_installer
    stage "programs" "$log" up_programs
    stage "server" "$log" up_server
    stage "hosts ($(conf_get hosts))" "$log" up_hosts
    stage "repositories, template" "$log" up_objects
    up_summary
}

# Options against what earlier calls set up, before anything is done.
up_settings() {
    local old joined
    old=$(conf_get port)
    if [ -n "$port" ] && [ "$port" != "${old:-$port}" ] && daemon_pid poold >/dev/null; then
        fail "the server of $state runs on port $old; './$corral_program down' first to move it to $port"
    fi
    conf_set port "${port:-${old:-8443}}"
    old=$(conf_get http)
    if [ -n "$http" ] && [ "$http" != "$old" ] && daemon_pid poold >/dev/null; then
        fail "the server of $state runs with plain HTTP ${old:-off}; './$corral_program down' first to change that"
    fi
    conf_set http "${http:-$old}"
    old=$(conf_get hosts)
    # Hosts that an earlier call asked for and never got to are no hosts.
    joined=$(find "$state/hosts" -mindepth 3 -maxdepth 3 -path '*/pki/host-uuid' | wc -l)
    if [ -n "$hosts" ] && ((10#$hosts < joined)); then
        fail "the pool in $state has $joined hosts; 'up' takes none away"
    fi
    conf_set hosts "$((10#${hosts:-${old:-1}}))"
}

# Made once for this source tree, then copied.
up_image() {
    local made=$corral_root/build/images file
    mkdir -p "$made"
    exec 8>"$made/.lock"
    flock 8
    "$corral_root/guest/build-tiny" "$made" 8>&-
    if cmp -s "$made/tiny.version" "$state/images/tiny.version"; then
        remark "nothing to do"
        return
    fi
    # The version last: it says that the others are right.
    for file in tiny.vmlinuz tiny.initrd tiny.version; do
        cp "$made/$file" "$state/images/$file.new"
        mv "$state/images/$file.new" "$state/images/$file"
    done
    changed "tiny Linux"
    remark "version $(sed -n 's/^version=//p' "$made/tiny.version"), $(sed -n 's/^kernel=/kernel /p' "$made/tiny.version")"
}

# Where Debian's package of it is installed, guests can be started with it.
up_installer() {
    local from=/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64 to=$state/images/debian-12-installer pair
    if [ ! -r "$from/initrd.gz" ]; then
        remark "not there: apt-get install debian-installer-12-netboot-amd64"
        return
    fi
    if cmp -s "$from/initrd.gz" "$to.initrd" && cmp -s "$from/linux" "$to.linux"; then
        remark "nothing to do"
        return
    fi
    for pair in initrd.gz:initrd linux:linux; do
        cp "$from/${pair%:*}" "$to.${pair#*:}.new"
        mv "$to.${pair#*:}.new" "$to.${pair#*:}"
    done
    changed "Debian installer"
}

# The pool runs a copy of the build, so that the source tree can change, move or be closed to the
# server's user.
up_programs() {
    local program differ=false running=false name
    for program in "${app_programs[@]}"; do
        [ -x "$build/bin/$program" ] || {
            echo "the build in $build made no $program"
            return 1
        }
        cmp -s "$build/bin/$program" "$state/app/$program" || differ=true
    done
    diff -rq "$build/web/dist" "$state/app/web" >/dev/null 2>&1 || differ=true
    if ! $differ; then
        remark "nothing to do"
        return
    fi
    for name in poold $(host_names); do
        daemon_pid "$name" >/dev/null && running=true
    done
    if $running && [ -x "$state/app/poold" ]; then
        remark "newer ones are built; './$corral_program down' and 'up' put them to use, guests go on"
        return
    fi
    rm -rf "$state/app.new"
    mkdir "$state/app.new"
    for program in "${app_programs[@]}"; do
        cp "$build/bin/$program" "$state/app.new/"
    done
    if [ -d "$build/web/dist" ]; then
        cp -R "$build/web/dist" "$state/app.new/web"
    fi
    chmod -R u=rwX,go=rX "$state/app.new"
    rm -rf "$state/app"
    mv "$state/app.new" "$state/app"
    changed "programs"
    remark "copied"
}

host_names() {
    local i
    for ((i = 1; i <= $(conf_get hosts); i++)); do
        echo "hostd-$i"
    done
}

up_server() {
    local wanted as=() options
    if daemon_pid poold >/dev/null; then
        remark "runs, port $(pool_port)"
        return
    fi
    wanted=$(conf_get port)
    [ "$wanted" = 0 ] || pool_ask port-free "$wanted" || {
        echo "another program has that port: choose one with --port N"
        return 1
    }
    if as_root; then
        as=(setpriv --reuid "$pool_user" --regid "$pool_user" --init-groups --bounding-set=-all --inh-caps=-all
            --no-new-privs)
    fi
    options=(--state "$state" --port "$wanted")
    [ ! -d "$state/app/web" ] || options+=(--web "$state/app/web")
    case $(conf_get http) in
    '' | off) ;;
    *) options+=(--http "$(conf_get http)") ;;
    esac
    rm -f "$state/poold.port" "$state/poold.http"
    daemon_start poold "${as[@]}" "$state/app/poold" "${options[@]}"
    daemon_wait poold "$state/poold.port" 30
    conf_set port "$(cat "$state/poold.port")"
    pool_ask answers
    changed "server started"
    remark "started, port $(pool_port)"
}

up_hosts() {
    local i name folder options started=0
    for ((i = 1; i <= $(conf_get hosts); i++)); do
        name=hostd-$i
        folder=$state/hosts/$i
        daemon_pid "$name" >/dev/null && continue
        mkdir -p "$folder"
        chmod 700 "$folder"
        [ -n "$(conf_get "driver_$i")" ] || conf_set "driver_$i" "${driver:-qemu}"
        options=(--state "$folder" --images "$state/images" --driver "$(conf_get "driver_$i")"
            --guest-uids "$((0x70000000 + (i - 1) * 65536))")
        if [ ! -e "$folder/pki/host-uuid" ]; then
            pool_ask token "$folder/token"
            options+=(--join "https://127.0.0.1:$(pool_port)" --token-file "$folder/token")
        fi
        rm -f "$folder/hostd.port"
        daemon_start "$name" "$state/app/hostd" "${options[@]}"
        daemon_wait "$name" "$folder/hostd.port" 30
        rm -f "$folder/token"
        started=$((started + 1))
    done
    pool_ask hosts "$(conf_get hosts)"
    if [ "$started" -eq 0 ]; then
        remark "running"
    else
        changed "$started hosts started"
        remark "$started started"
    fi
}

up_objects() {
    local made
    made=$(pool_ask set-up)
    if [ -z "$made" ]; then
        remark "nothing to do"
    else
        changed "$made"
        echo "$made"
        remark "$(paste -s -d, <<<"$made" | sed 's/,/, /g')"
    fi
}

up_summary() {
    local again="./$corral_program" plain
    [ "$state" = "$(default_state)" ] || again="./$corral_program env --state $(printf %q "$state")"
    [ "$state" != "$(default_state)" ] || again="./$corral_program env"
    echo
    if [ -s "$state/run/changed" ]; then
        say "The pool is ready."
    else
        say "Nothing was changed: the pool is running."
    fi
    say "  web page   https://127.0.0.1:$(pool_port)/"
    plain=$(cat "$state/poold.http" 2>/dev/null || true)
    [ -z "$plain" ] || say "             http://127.0.0.1:$plain/ (plain HTTP, this machine only)"
    say "  user       root"
    say "  password   in $state/admin-password"
    echo
    say "Next:"
    say "  eval \"\$($again)\""
    say "  xe vm-install template=\"Corral tiny Linux\" new-name-label=first"
    say "  xe vm-start vm=first && xe console vm=first"
}
