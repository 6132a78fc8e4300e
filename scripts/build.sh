# Builds: build/release for use, build/test with sanitizers.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

# build_configure FOLDER CMAKE-OPTIONS...: once; a change of the options configures again.
build_configure() {
    local folder=$1 wanted
    shift
    wanted="$*"
    if [ -e "$folder/build.ninja" ] && [ "$(cat "$folder/options" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    cmake --fresh -G Ninja -S "$corral_root" -B "$folder" "$@"
    printf '%s\n' "$wanted" >"$folder/options"
}

# One build of a folder at a time: a second pool may be started meanwhile.
build_run() {
    local folder=$1
    shift
    mkdir -p "$folder"
    exec 8>"$folder/.lock"
    flock 8
    build_configure "$folder" "$@"
    # npm is to trust what this machine trusts, such as the authority of a company's proxy.
    if [ -z "${NODE_EXTRA_CA_CERTS-}" ] && [ -r /etc/ssl/certs/ca-certificates.crt ]; then
        export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
    fi
    ninja -C "$folder" 8>&- | tee "$folder/ninja.log"
    if tail -n 1 "$folder/ninja.log" | grep -q 'no work to do'; then
        remark "nothing to do"
    fi
}

build_release() {
    build_run "$corral_root/build/release" -DCMAKE_BUILD_TYPE=Release -DCORRAL_TESTS=OFF
}
