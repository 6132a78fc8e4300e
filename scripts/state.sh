# The pool's folder: where it is, who owns what in it, what was asked for on earlier calls.
#
#   DIR/                 pool.db, pki/, admin-password: poold's
#   DIR/hosts/N/         each hostd's
#   DIR/images, sr, iso  the tiny guest, the default disk repository, the ISO repository
#   DIR/app/             the programs and the web page that run, a copy of a build
#   DIR/run, log         pid files and logs of the daemons
#   DIR/corral.conf      ports and number of hosts
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

default_state() {
    if [ "$(id -u)" -eq 0 ]; then
        echo /var/lib/corral
    else
        echo "${XDG_STATE_HOME:-$HOME/.local/state}/corral"
    fi
}

# Sets `state` (absolute). It need not exist.
state_find() {
    state=$(realpath -m -- "${state:-$(default_state)}")
    case $state in
    *[$'\n\r']*) fail "a line break in the name of the state folder is not possible" ;;
    esac
}

# `state` exists and is a pool's folder.
state_require() {
    state_find
    [ -e "$state/corral.conf" ] || fail "there is no pool in $state (./$corral_program up makes one)"
    [ -x "$state/log" ] || fail "the pool in $state is another user's"
}

conf_get() {
    [ ! -r "$state/corral.conf" ] || sed -n "s/^$1=//p" "$state/corral.conf" | tail -n 1
}

# conf_set NAME VALUE: replaces the file as a whole, so that a crash leaves the old or the new.
conf_set() {
    { grep -v "^$1=" "$state/corral.conf" 2>/dev/null || true; echo "$1=$2"; } >"$state/corral.conf.new"
    mv "$state/corral.conf.new" "$state/corral.conf"
}

# As root, poold runs as user corral and each QEMU as corral-qemu.
pool_user=corral
qemu_user=corral-qemu
as_root() { [ "$(id -u)" -eq 0 ]; }

state_users_missing() {
    local user
    as_root || return 0
    for user in "$pool_user" "$qemu_user"; do
        getent passwd "$user" >/dev/null || echo "$user"
    done
}

state_make_users() {
    local user
    for user in "$@"; do
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    done
    # QEMU opens /dev/kvm itself, where there is one.
    if getent group kvm >/dev/null; then
        usermod -a -G kvm "$qemu_user"
    fi
}

# Nothing is ever made in a folder that holds something else.
state_check() {
    [ ! -d "$state" ] || [ -e "$state/corral.conf" ] ||
        [ -z "$(find "$state" -mindepth 1 -maxdepth 1 ! -name log -print -quit)" ] ||
        fail "$state is not empty and is not a pool's folder"
}

# The folder is root's, with the sticky bit: poold makes its files there and cannot replace what
# belongs to the agents, which have more rights than it.
state_make() {
    mkdir -p "$state/log" "$state/run" "$state/hosts" "$state/images" "$state/sr" "$state/iso"
    chmod 700 "$state/log" "$state/sr"
    if as_root; then
        chown "root:$pool_user" "$state"
        chmod 1771 "$state"
        setpriv --reuid "$pool_user" --regid "$pool_user" --clear-groups test -w "$state" ||
            fail "user $pool_user, who runs the server, cannot reach $state: a folder above it is closed to others"
    else
        chmod 700 "$state"
    fi
    [ -e "$state/corral.conf" ] || conf_set version 1
}

# One 'up' or 'down' of a pool at a time. The lock ends with this process: daemons do not get it.
state_lock() {
    exec 9>"$state/run/lock"
    flock -n 9 || {
        say "another '$corral_program' works on $state: waiting for it"
        flock 9
    }
}
