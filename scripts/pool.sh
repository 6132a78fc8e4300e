# Questions to the running pool, by its API; and the settings for xe.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

# pool_ask ARGUMENTS: see pool.py.
pool_ask() { python3 -B "$corral_root/scripts/pool.py" --state "$state" "$@"; }

pool_port() { cat "$state/poold.port" 2>/dev/null || conf_get port; }

command_env() {
    state_require
    local name
    for name in "PATH=$state/app:" XE_SERVER=127.0.0.1 "XE_PORT=$(pool_port)" XE_USER=root \
        "XE_PASSWORD_FILE=$state/admin-password" "XE_CA=$state/pki/ca.pem"; do
        # shellcheck disable=SC2016  # the reader's shell adds its own PATH
        case $name in
        PATH=*) printf 'export PATH=%q"$PATH"\n' "${name#PATH=}" ;;
        *) printf 'export %s=%q\n' "${name%%=*}" "${name#*=}" ;;
        esac
    done
}
