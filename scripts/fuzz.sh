# corral fuzz: all fuzz targets, each for a while, from the inputs that are kept in the tree.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

command_fuzz() {
    local folder=$corral_root/build/fuzz log=$corral_root/build/fuzz/corral.log per=${seconds:-60} at_once=${jobs:-$(nproc)}
    local wanted=$folder/fuzz/wanted count
    packages_ensure "$log" build fuzz
    stage "build fuzz targets" "$log" fuzz_build "$folder"
    awk -v target="$target" 'target == "" || $1 == target' "$folder/fuzz/targets" >"$wanted"
    count=$(wc -l <"$wanted")
    [ "$count" -gt 0 ] || fail "there is no fuzz target $target; there are: $(cut -d' ' -f1 "$folder/fuzz/targets" | xargs)"
    say "$count targets, $at_once at a time, $per s each: about $((count * per / at_once / 60 + 1)) min"
    export -f fuzz_line fuzz_run say fail
    export keep
    # shellcheck disable=SC2016  # $0 and on are the child's
    xargs --arg-file "$wanted" --delimiter '\n' --max-procs "$at_once" --max-args 1 \
        bash -c 'fuzz_line "$0" "${2%% *}" "${2#* }" "$1"' "$folder/fuzz" "$per" || {
        say "some of $count targets found something: see above"
        exit 1
    }
    say "$count targets, $per s each, nothing found"
}

# fuzz_line FOLDER NAME KEPT SECONDS: the same as fuzz_run, in one piece.
fuzz_line() {
    local text rc=0
    text=$(fuzz_run "$@") || rc=$?
    printf '%s\n' "$text"
    return "$rc"
}

# Only what the targets need: no tests, no page.
fuzz_build() {
    local folder=$1
    mkdir -p "$folder"
    exec 8>"$folder/.lock"
    flock 8
    build_configure "$folder" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DCORRAL_SANITIZE=ON \
        -DCORRAL_TESTS=OFF -DCORRAL_FUZZ=ON
    ninja -C "$folder" fuzz-programs 8>&-
}

# fuzz_run FOLDER NAME KEPT SECONDS: one line for the person. Inputs that reach new code gather in FOLDER/corpus/NAME,
# and join those of the tree with --keep; an input that breaks the target is put among those of the tree at once,
# so that the tests try it from then on.
fuzz_run() {
    local folder=$1 name=$2 kept=$3 per=$4 work=$1/corpus/$2 finds=$1/finds/$2 log=$1/$2.log rc=0 find
    mkdir -p "$work" "$finds" "$kept"
    printf '%-28s ' "$name"
    "$folder/$name" -max_total_time="$per" -timeout=20 -rss_limit_mb=3000 -artifact_prefix="$finds/" -print_final_stats=1 \
        "$work" "$kept" >"$log" 2>&1 </dev/null || rc=$?
    if [ "$rc" -ne 0 ]; then
        find=$(sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1)
        say "FOUND: $(grep -m 1 -E '^SUMMARY:|ERROR: ' "$log" || echo "exit $rc")"
        if [ -n "$find" ]; then
            cp -- "$find" "$kept/"
            say "    kept:   $kept/$(basename "$find")"
            say "    repeat: $folder/$name $kept/$(basename "$find")"
        fi
        say "    log:    $log"
        return 1
    fi
    if $keep; then
        "$folder/$name" -merge=1 -max_len=4096 "$kept" "$work" >>"$log" 2>&1 </dev/null ||
            fail "$name: the new inputs could not be added to $kept: see $log"
    fi
    say "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, $(find "$kept" -type f | wc -l) kept inputs"
}
