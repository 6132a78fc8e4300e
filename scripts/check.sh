# corral test, corral coverage and corral bench.
# shellcheck shell=bash disable=SC2154  # options and places are variables of ../corral

command_test() {
    local folder=$corral_root/build/test log=$corral_root/build/test/corral.log rc=0
    packages_ensure "$log" build run test
    stage "build with sanitizers" "$log" build_run "$folder" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DCORRAL_SANITIZE=ON -DCORRAL_TESTS=ON
    stage "tiny Linux" "$log" "$corral_root/guest/build-tiny" "$corral_root/build/images"
    rm -f "$folder/again.xml"
    echo
    # Twice as many as there are processors: most tests wait for daemons most of their time.
    ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel $(($(nproc) * 2)) \
        --label-exclude '^bench$' --output-junit "$folder/results.xml" "${rest[@]}" </dev/null || rc=$?
    if ((rc != 0)) && second_try "$folder"; then
        rc=0
    fi
    if $long; then long_run "$folder" || rc=1; fi
    echo
    python3 -B "$corral_root/scripts/coverage.py" --calls "$folder/calls"
    check_count "$folder"
    exit "$rc"
}

# second_try FOLDER: runs what failed once more, one at a time. A test that passes then met its deadline or a race
# only beside others: check_count names it. More than a few are not looked at again.
second_try() {
    local failed=$1/Testing/Temporary/LastTestsFailed.log
    [[ -s $failed ]] && (($(wc -l <"$failed") <= 4)) || return 1
    echo
    say "what failed runs once more, alone"
    ctest --test-dir "$1" --rerun-failed --output-on-failure --output-junit "$1/again.xml" </dev/null
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
    say "at length: a bit flipped in each byte of a database"
    CORRAL_FLIPS=1 "$1/db/test_sums" --filter '*/a_flip*' </dev/null || rc=1
    for name in base/test_base_memory db/test_memory apiserver/tests/apiserver_test_memory hv/hv_wire_memory_test; do
        say "at length: each allocation fails, ${name##*/}"
        CORRAL_ALLOCATIONS=all "$1/$name" </dev/null || rc=1
    done
    say "at length: churn"
    CORRAL_CHURN=1000 "$1/apiserver/tests/apiserver_test_gate_churn" </dev/null || rc=1
    races_run || rc=1
    export CORRAL_TEST_IMAGES=$corral_root/build/images
    say "at length: an image made by xe, and one that cloud-init sets up"
    CORRAL_CREATE_IMAGE=1 python3 -B "$corral_root/tests/e2e/test_debian.py" \
        DebianTest.test_an_image_made_by_xe_is_what_was_asked_for \
        DebianTest.test_cloud_init_sets_a_guest_up_as_it_was_asked_to </dev/null || rc=1
    say "at length: a whole installation"
    CORRAL_CREATE_IMAGE=1 python3 -B "$corral_root/tests/e2e/test_media.py" \
        MediaTest.test_debian_installs_itself_from_its_template </dev/null || rc=1
    say "at length: all that drives a guest is killed, everywhere"
    python3 -B "$corral_root/tests/e2e/test_killed.py" </dev/null || rc=1
    for name in boot.BootTest.test_a_reboot_takes_the_new_kernel input.Input.test_snapshots_of_a_running_disk_have_an_end; do
        say "at length: ${name##*.}"
        python3 -B "$corral_root/tests/e2e/test_${name%%.*}.py" "${name#*.}" </dev/null || rc=1
    done
    say "at length: instructions"
    local folder=$corral_root/build/release
    packages_ensure "$folder/corral.log" build run bench
    { build_release && build_benchmarks "$folder" &&
        ctest --test-dir "$folder" --output-on-failure --no-tests=error --tests-regex '^bench_instructions$'; } </dev/null || rc=1
    (
        seconds=600
        command_fuzz
    ) || rc=1
    return "$rc"
}

# races_run: the daemons under ThreadSanitizer, with the tests that load them from many clients. A data race, or locks
# taken in different orders, is one file a process, and fails.
races_run() {
    local folder=$corral_root/build/races log=$corral_root/build/races/corral.log name rc=0
    stage "build with ThreadSanitizer" "$log" races_build "$folder"
    rm -rf "$folder/found"
    mkdir -p "$folder/found"
    for name in event_checker crash vm tasks events storage; do
        say "races: $name"
        CORRAL_TEST_BUILD=$folder CORRAL_TEST_UNCONFINED=1 CORRAL_CRASH_KILLS=100 CORRAL_CHECK_SECONDS=60 \
            TSAN_OPTIONS="log_path=$folder/found/$name history_size=4 second_deadlock_stack=1 suppressions=$corral_root/scripts/races.supp" \
            python3 -B "$corral_root/tests/api/test_$name.py" </dev/null || rc=1
    done
    if [ -n "$(ls -A "$folder/found")" ]; then
        cat "$folder/found/"* >&2
        rc=1
    fi
    return "$rc"
}

races_build() {
    local folder=$1
    mkdir -p "$folder"
    exec 8>"$folder/.lock"
    flock 8
    build_configure "$folder" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCORRAL_TSAN=ON -DCORRAL_TESTS=OFF
    ninja -C "$folder" poold hostd xe corral-launch 8>&-
}

# The tests' own verdicts are those of 'corral test': here they only have to run.
branches_run() {
    local folder=$corral_root/build/branches log=$corral_root/build/branches/corral.log part arguments=()
    if $list; then arguments+=(--list); fi
    packages_ensure "$log" build run test
    stage "build for counting" "$log" branches_build "$folder"
    find "$folder" -name '*.gcda' -delete
    for part in db apiserver tests/api; do
        CORRAL_ALLOCATIONS=all CORRAL_TEST_UNCONFINED=1 ctest --test-dir "$folder/$part" --parallel $(($(nproc) * 2)) </dev/null ||
            say "some tests failed: they may have left branches out"
    done
    python3 -B "$corral_root/scripts/branches.py" "$folder" --json "$folder/branches.json" "${arguments[@]}"
}

branches_build() {
    local folder=$1
    mkdir -p "$folder"
    exec 8>"$folder/.lock"
    flock 8
    build_configure "$folder" -DCMAKE_BUILD_TYPE=Debug -DCORRAL_BRANCHES=ON
    ninja -C "$folder" db/all apiserver/all tests/api/all attend poold hostd xe corral-launch 8>&-
}

command_coverage() {
    if $branches; then
        branches_run
        return
    fi
    local arguments=(--calls "$corral_root/build/test/calls")
    if $list; then arguments+=(--list); fi
    packages_ensure "$corral_root/build/coverage.log" build
    python3 -B "$corral_root/scripts/coverage.py" "${arguments[@]}"
}

# check_count FOLDER: the plain last line, how many passed and failed, and before it those that needed a second try.
check_count() {
    python3 - "$1/results.xml" "$1/again.xml" <<'END'
import sys
import xml.etree.ElementTree as tree

def cases(path):
    return {case.get("name"): case.get("status") for case in tree.parse(path).getroot().iter("testcase")}

try:
    found = cases(sys.argv[1])
except (OSError, tree.ParseError):
    print("0 passed, 1 failed")
    sys.exit()
try:
    again = cases(sys.argv[2])
except (OSError, tree.ParseError):
    again = {}
for name in (name for name, status in again.items() if status == "run"):
    print(f"passed at the second try only: {name}")
found.update(again)
failed = sum(status == "fail" for status in found.values())
passed = sum(status == "run" for status in found.values())
skipped = len(found) - failed - passed
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
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
