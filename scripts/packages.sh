# Debian packages that Corral needs: which, what for, and how missing ones are installed.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

# need | how to see that it is there (c: a command, d: a package) | package | what for
packages_table='
build|c:gcc|gcc|C compiler
build|d:libc6-dev|libc6-dev|headers of the C library
build|c:cmake|cmake|build description
build|c:ninja|ninja-build|build tool
build|c:pkg-config|pkgconf|finds libraries
build|c:python3|python3|code generator, set-up of the pool
build|d:libjansson-dev|libjansson-dev|JSON
build|d:libsqlite3-dev|libsqlite3-dev|the database
build|d:libssl-dev|libssl-dev|certificates, passwords
build|d:uuid-dev|uuid-dev|identifiers
build|d:libcurl4-openssl-dev|libcurl4-openssl-dev|HTTP client
build|d:libmicrohttpd-dev|libmicrohttpd-dev|HTTP server
build|d:libnl-route-3-dev|libnl-route-3-dev|bridges and taps
build|d:libpam0g-dev|libpam0g-dev|logins of users of this machine
build|d:libxml2-dev|libxml2-dev|XML of disk templates
build|d:libexpat1-dev|libexpat1-dev|XML of guests of libvirt and of OVF
build|d:zlib1g-dev|zlib1g-dev|disks of OVA archives
build|d:libjpeg62-turbo-dev|libjpeg62-turbo-dev|pictures of screens
build|d:libarchive-dev|libarchive-dev|archives of VMs (tar, gzip, zstd)
build|d:libyaml-dev|libyaml-dev|documents of desired state
build|d:libxxhash-dev|libxxhash-dev|checksums of archives of VMs
build|d:libgnutls28-dev|libgnutls28-dev|TLS of the HTTP server
build|d:ca-certificates|ca-certificates|npm checks certificates
build|c:node|nodejs|builds the web page
build|c:npm|npm|packages of the web page
run|c:qemu-system-x86_64|qemu-system-x86|runs the guests
run|c:qemu-img|qemu-utils|disk images
run|d:ovmf|ovmf|UEFI for guests
run|c:swtpm|swtpm|TPMs for guests
run|c:grub-fstest|grub-common|kernels out of disks of guests
run|c:nft|nftables|what network cards of guests may send
test|d:libcriterion-dev|libcriterion-dev|unit tests
test|c:chromium|chromium|tests of the web page
test|d:fonts-dejavu-core|fonts-dejavu-core|text in screenshots
test|c:rrdtool|rrdtool|tests compare with it
test|d:libpam-wrapper|libpam-wrapper|made-up users for tests of PAM
test|c:openssl|openssl|tests make certificates with it
test|c:ss|iproute2|tests look at sockets
test|c:syslinux|syslinux|bootable test disk (BIOS)
test|d:syslinux-common|syslinux-common|its second stage
test|c:mcopy|mtools|its file system
test|d:grub-efi-amd64-bin|grub-efi-amd64-bin|bootable test disk (UEFI)
test|c:grub-mkimage|grub-common|its boot loader
test|c:sbsign|sbsigntool|signs EFI programs for tests of Secure Boot
test|c:sign-efi-sig-list|efitools|makes the keys of those tests
test|c:mke2fs|e2fsprogs|disks with files for guests
test|c:mkfs.xfs|xfsprogs|disks of guests whose kernel is read
test|c:mkfs.btrfs|btrfs-progs|the same
test|c:valgrind|valgrind|counts instructions of hot paths
test|c:mmdebstrap|mmdebstrap|a Debian guest
test|c:sfdisk|fdisk|its partitions
test|d:grub-pc-bin|grub-pc-bin|its boot loader (BIOS)
test|d:isolinux|isolinux|bootable test CD
test|c:xorriso|xorriso|its file system
test|d:debian-installer-12-netboot-amd64|debian-installer-12-netboot-amd64|an installer to boot
fuzz|c:clang|clang|compiler with a fuzzer
fuzz|d:libclang-rt-14-dev|libclang-rt-14-dev|its fuzzer and sanitizers
package|c:dh|debhelper|builds packages
package|c:dpkg-buildpackage|dpkg-dev|the same
bench|c:wrk|wrk|load generator
bench|c:valgrind|valgrind|counts instructions
'

# packages_missing NEED...: lines "package|what for" of what is not there.
packages_missing() {
    local need probe package reason
    while IFS='|' read -r need probe package reason; do
        [[ -n $need && " $* " == *" $need "* ]] || continue
        case $probe in
        c:*) command -v "${probe#c:}" >/dev/null && continue ;;
        d:*) [ "$(dpkg-query -W -f='${db:Status-Status}' "${probe#d:}" 2>/dev/null)" = installed ] && continue ;;
        esac
        printf '%s|%s\n' "$package" "$reason"
    done <<<"$packages_table"
}

# packages_ensure LOG NEED...: says what is missing and why, and installs just that.
packages_ensure() {
    local log=$1 missing package reason list=() sudo=()
    shift
    missing=$(packages_missing "$@")
    if [ -z "$missing" ]; then
        packages_check_node
        return 0
    fi
    command -v apt-get >/dev/null || fail "packages are missing, and this machine has no apt-get: $(cut -d'|' -f1 <<<"$missing" | xargs)"
    say "These packages are missing and will be installed with apt-get:"
    while IFS='|' read -r package reason; do
        printf '    %-22s %s\n' "$package" "$reason"
        list+=("$package")
    done <<<"$missing"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "only root may install packages, and there is no sudo here. As root: apt-get install ${list[*]}"
        say "Only root may install packages, so sudo is used for this step alone."
        sudo -v || fail "sudo was refused. As root: apt-get install ${list[*]}"
        sudo=(sudo)
    fi
    stage "packages (${#list[@]})" "$log" packages_install "${sudo[@]}" -- "${list[@]}"
    packages_check_node
}

# Nothing that is installed may be removed for it; recommended packages are left out.
packages_install() {
    local sudo=() apt
    while [ "$1" != -- ]; do
        sudo+=("$1")
        shift
    done
    shift
    apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
    if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
        "${apt[@]}" update
    fi
    "${apt[@]}" --no-remove --no-install-recommends install "$@" && return 0
    echo "once more, with fresh package lists"
    "${apt[@]}" update
    "${apt[@]}" --no-remove --no-install-recommends install "$@"
}

packages_check_node() {
    command -v node >/dev/null || return 0
    node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)' ||
        fail "node is $(node --version) ($(command -v node)), but the web page needs 18 or newer"
}
