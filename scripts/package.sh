# corral package: Debian packages of what is committed, in build/package.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

command_package() {
    local log=$corral_root/build/package.log folder=$corral_root/build/package
    git -C "$corral_root" rev-parse -q --verify HEAD >/dev/null || fail "package needs a checkout of git"
    version=${version:-$(package_version)}
    packages_ensure "$log" build package
    if [ -n "$(git -C "$corral_root" status --porcelain --untracked-files=no)" ]; then
        say "Changes that are not committed are left out."
    fi
    stage "source" "$log" package_source "$folder/corral-$version"
    stage "packages of npm" "$log" package_npm "$folder/corral-$version"
    stage "packages" "$log" package_build "$folder/corral-$version"
    if command -v lintian >/dev/null; then stage "lintian" "$log" package_check "$folder"; fi
    say "$(cd "$folder" && printf '  %s\n' "$folder"/*.deb)"
}

# That of the changelog when the commit has its tag; otherwise a later one, by the time of the commit.
package_version() {
    local listed
    listed=$(sed -n '1s/.*(\(.*\)).*/\1/p' "$corral_root/packaging/debian/changelog")
    if git -C "$corral_root" describe --exact-match --match "v$listed" HEAD >/dev/null 2>&1; then
        echo "$listed"
    else
        echo "$listed+git$(TZ=UTC git -C "$corral_root" show -s --format=%cd --date=format-local:%Y%m%d.%H%M%S HEAD)"
    fi
}

# package_source FOLDER: the tree as committed, with debian/ where Debian's tools want it.
package_source() {
    local head="$1/debian/changelog.new"
    rm -rf "${1%/*}"
    mkdir -p "$1"
    git -C "$corral_root" archive HEAD | tar -C "$1" -x
    cp -R "$1/packaging/debian" "$1/debian"
    if [ "$version" = "$(sed -n '1s/.*(\(.*\)).*/\1/p' "$1/debian/changelog")" ]; then return; fi
    {
        printf 'corral (%s) unstable; urgency=medium\n\n  * Commit %s.\n\n' "$version" "$(git -C "$corral_root" rev-parse HEAD)"
        sed -n "s/^\( -- .*>\)  .*/\1  $(git -C "$corral_root" show -s --format=%cD HEAD)/p" "$1/debian/changelog" | head -n 1
        echo
        cat "$1/debian/changelog"
    } >"$head"
    mv "$head" "$1/debian/changelog"
}

# The only step that may need a network: the build itself does not.
package_npm() {
    if cmp -s "$corral_root/web/package-lock.json" "$1/web/package-lock.json" && [ -e "$corral_root/web/node_modules/.corral-lock" ]; then
        cp -R "$corral_root/web/node_modules" "$1/web/node_modules"
    fi
    NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS-/etc/ssl/certs/ca-certificates.crt} node "$1/web/install.mjs"
}

# package_build FOLDER: binary packages, and with --source what sbuild and the like begin from.
package_build() {
    local what=binary
    if $source; then what=full; fi
    (cd "$1" && dpkg-buildpackage --build="$what" --no-sign)
}

package_check() {
    lintian --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$1"/corral_*.changes
}
