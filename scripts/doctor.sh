# corral doctor: what on this machine would keep a pool from running, or make it slow.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

doctor_failed=false

# doctor_line ok|warn|FAIL SUBJECT FINDING [WHAT TO DO]
doctor_line() {
    printf '%-5s %-10s %s\n' "$1" "$2" "$3"
    [ $# -lt 4 ] || printf '%-16s -> %s\n' '' "$4"
    [ "$1" != FAIL ] || doctor_failed=true
}

command_doctor() {
    state_find
    doctor_system
    doctor_packages
    doctor_processor
    doctor_memory
    doctor_disk
    doctor_ports
    ! $doctor_failed || exit 1
}

doctor_system() {
    local id='' version='' name=unknown arch
    arch=$(uname -m)
    if [ -r /etc/os-release ]; then
        # shellcheck source=/dev/null
        read -r id version name < <(. /etc/os-release && echo "${ID-} ${VERSION_ID-0} ${PRETTY_NAME-}")
    fi
    if [ "$arch" != x86_64 ]; then
        doctor_line FAIL system "$name on $arch" "Corral runs on x86_64"
    elif [ "$id" = debian ] && [ "${version%%.*}" -ge 12 ] 2>/dev/null; then
        doctor_line ok system "$name"
    else
        doctor_line warn system "$name" "made for and tried on Debian 12; elsewhere the packages may have other names"
    fi
}

doctor_packages() {
    local missing
    missing=$(packages_missing build run | cut -d'|' -f1 | xargs)
    if [ -z "$missing" ]; then
        doctor_line ok packages "all there"
    elif [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; then
        doctor_line warn packages "missing: $missing" "'./$corral_program up' installs them"
    else
        doctor_line FAIL packages "missing: $missing" "as root: apt-get install $missing"
    fi
}

doctor_processor() {
    local count
    count=$(nproc)
    if [ "$count" -ge 2 ]; then
        doctor_line ok processor "$count cores"
    else
        doctor_line warn processor "1 core" "building and guests will be slow"
    fi
    if ! grep -qwE 'vmx|svm' /proc/cpuinfo; then
        doctor_line warn kvm "the processor shows neither vmx nor svm: guests run by emulation, about 10 times slower" \
            "switch virtualization on in the firmware, or nested virtualization when this is a guest itself"
    elif [ ! -e /dev/kvm ]; then
        doctor_line warn kvm "the processor can, but there is no /dev/kvm: guests run by emulation" \
            "load the module: modprobe kvm_intel, or kvm_amd"
    elif [ ! -w /dev/kvm ]; then
        doctor_line warn kvm "/dev/kvm is closed to $(id -un): guests run by emulation" "join the group: adduser $(id -un) kvm, and log in again"
    else
        doctor_line ok kvm "usable"
    fi
}

doctor_memory() {
    local mib
    mib=$(($(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024))
    if [ "$mib" -ge 2048 ]; then
        doctor_line ok memory "$mib MiB available"
    elif [ "$mib" -ge 512 ]; then
        doctor_line warn memory "$mib MiB available" "enough for one or two small guests"
    else
        doctor_line FAIL memory "$mib MiB available" "a pool with one small guest needs 512 MiB"
    fi
}

doctor_disk() {
    local folder mib place
    for folder in "$state" "$corral_root"; do
        place=$folder
        until [ -e "$place" ]; do
            place=$(dirname "$place")
        done
        mib=$(($(df -P -k "$place" | awk 'NR == 2 { print $4 }') / 1024))
        if [ "$mib" -ge 4096 ]; then
            doctor_line ok disk "$mib MiB free for $folder"
        elif [ "$mib" -ge 1024 ]; then
            doctor_line warn disk "$mib MiB free for $folder" "disks of guests will need more"
        else
            doctor_line FAIL disk "$mib MiB free for $folder" "building and a first guest need 1 GiB"
        fi
    done
}

doctor_ports() {
    local wanted
    wanted=${port:-$(conf_get port)}
    wanted=${wanted:-8443}
    if daemon_pid poold >/dev/null; then
        doctor_line ok ports "$(pool_port) is this pool's own"
    elif ! command -v python3 >/dev/null; then
        doctor_line warn ports "not checked: python3 is missing"
    elif pool_ask port-free "$wanted" 2>/dev/null; then
        doctor_line ok ports "$wanted is free"
    else
        doctor_line FAIL ports "$wanted on 127.0.0.1 is in use" "choose another: ./$corral_program up --port N"
    fi
}
