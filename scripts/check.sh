# corral test, corral coverage and corral bench.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

command_test() {
    local folder=$corral_root/build/test log=$corral_root/build/test/corral.log rc=0
    packages_ensure "$log" build run test
    stage "build with sanitizers" "$log" build_run "$folder" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DCORRAL_SANITIZE=ON -DCORRAL_TESTS=ON
    stage "tiny Linux" "$log" "$corral_root/guest/build-tiny" "$corral_root/build/images"
    echo
    ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$(nproc)" --label-exclude '^bench$' \
        --output-junit "$folder/results.xml" "${rest[@]}" </dev/null || rc=$?
    if $long; then long_run "$folder" || rc=1; fi
    echo
    python3 -B "$corral_root/scripts/coverage.py" --calls "$folder/calls"
    check_count "$folder/results.xml"
    exit "$rc"
}

# long_run FOLDER: what is random, at length, one after the other.
long_run() {
    local name rc=0
    echo
    export CORRAL_TEST_BUILD=$1 CORRAL_CRASH_KILLS=1000 CORRAL_CHECK_SECONDS=600 CORRAL_FAULTS=all
    for name in crash event_checker faults; do
        say "at length: $name"
        python3 -B "$corral_root/tests/api/test_$name.py" </dev/null || rc=1
    done
    (
        seconds=600
        command_fuzz
    ) || rc=1
    return "$rc"
}

command_coverage() {
    local arguments=(--calls "$corral_root/build/test/calls")
    if $list; then arguments+=(--list); fi
    packages_ensure "$corral_root/build/coverage.log" build
    python3 -B "$corral_root/scripts/coverage.py" "${arguments[@]}"
}

# The plain last line: how many passed and failed.
check_count() {
    python3 - "$1" <<'END'
import sys
import xml.etree.ElementTree as tree
try:
    suite = tree.parse(sys.argv[1]).getroot()
except (OSError, tree.ParseError):
    print("0 passed, 1 failed")
    sys.exit()
total, failed = int(suite.get("tests")), int(suite.get("failures"))
skipped = int(suite.get("skipped") or 0) + int(suite.get("disabled") or 0)
print(f"{total - failed - skipped} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
END
}

# What tests/bench/ has, by name.
bench_names() {
    sed -n 's/^foreach(name \(.*\))$/\1 store/p' "$corral_root/tests/bench/CMakeLists.txt"
}

command_bench() {
    local folder=$corral_root/build/release log=$corral_root/build/release/corral.log name pattern='' rc=0
    for name in "${rest[@]}"; do
        [[ " $(bench_names) " == *" $name "* ]] || fail "bench: there is none named '$name', but $(bench_names)"
        pattern+="${pattern:+|}$name"
    done
    packages_ensure "$log" build run bench
    stage "build" "$log" build_release
    stage "build benchmarks" "$log" build_benchmarks "$folder"
    echo
    export CORRAL_BENCH_JSON=$folder/bench.jsonl
    if $long; then export CORRAL_BENCH_LONG=1; fi
    # One at a time: each is to have the machine for itself.
    ctest --test-dir "$folder" --verbose --no-tests=error --label-regex '^bench$' \
        --tests-regex "^bench_(${pattern:-.*})\$" </dev/null || rc=$?
    python3 -B "$corral_root/tests/bench/plot.py" "$CORRAL_BENCH_JSON" "$folder/plots"
    exit "$rc"
}

build_benchmarks() {
    ninja -C "$1" bench-programs
}
