/* Seeds, read back by xorriso, by its Joliet names and by its plain ones. */
#include <base/file.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <hv/seed.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char *run(const char *const *argv)
{
    struct proc_spec spec = {.argv = argv};
    struct proc_run_options options = {.timeout_ms = 60000, .capture_max = 65536};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    cr_assert(proc_run(&spec, &options, &result) == 0 && proc_ok(&result), "%s", argv[0]);
    return xasprintf("%s%s", result.out.len ? result.out.data : "", result.err.len ? result.err.data : "");
}

static void expect_file(const char *dir, const char *name, const char *wanted)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    size_t len;
    AUTO_FREE char *data = file_read(path, SEED_BYTES, &len);
    cr_assert(data, "%s: %s", path, strerror(errno));
    cr_expect(len == strlen(wanted) && memcmp(data, wanted, len) == 0, "%s: %.100s", path, data);
    unlink(path);
}

Test(seed, is_read_by_others)
{
    AUTO_FREE char *large = xcalloc(1, 5001);
    memset(large, 'x', 5000);
    const struct str_pair pairs[] = {
        {"meta-data", "{\"instance-id\":\"1\"}\n"}, {"empty", ""}, {"user-data", large}};
    AUTO_STR_MAP const struct str_map *files = str_map_new(pairs, ARRAY_LEN(pairs));
    char dir[] = "/tmp/seed-test-XXXXXX";
    cr_assert(seed_ok(files));
    cr_assert(mkdtemp(dir));
    AUTO_FREE char *image = xasprintf("%s/seed.iso", dir), *out = xasprintf("%s/out", dir);
    AUTO_BUF struct buf bytes = BUF_INIT;
    seed_write(files, &bytes);
    cr_assert_eq(file_write_atomic(image, bytes.data, bytes.len, 0600), 0);
    static const char *const trees[][4] = {{"norock", "meta-data", "empty", "user-data"},
                                           {"ecma119", "META-DATA", "EMPTY", "USER-DATA"}};
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        const char *argv[] = {"xorriso",   "-no_rc",   "-abort_on", "WARNING", "-read_fs",
                              trees[i][0], "-osirrox", "on",        "-indev",  image,
                              "-pvd_info", "-extract", "/",         out,       NULL};
        AUTO_FREE char *said = run(argv);
        cr_expect(strstr(said, "Volume Id    : cidata\n"), "%s", said);
        chmod(out, 0700);
        for (size_t k = 0; k < 3; k++)
            expect_file(out, trees[i][k + 1], pairs[k].value);
        cr_expect_eq(rmdir(out), 0, "more files than those: %s", said);
    }
    unlink(image);
    rmdir(dir);
}

Test(seed, is_the_same_for_the_same_files_and_only_read)
{
    const struct str_pair pairs[] = {{"user-data", "#cloud-config\n"}};
    AUTO_STR_MAP const struct str_map *files = str_map_new(pairs, 1);
    AUTO_BUF struct buf a = BUF_INIT, b = BUF_INIT;
    seed_write(files, &a);
    seed_write(files, &b);
    cr_expect(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
    int fd AUTO_CLOSE = seed_open(files);
    cr_assert_geq(fd, 0);
    AUTO_FREE char *data = xcalloc(1, a.len);
    cr_expect(pread(fd, data, a.len, 0) == (ssize_t)a.len && memcmp(a.data, data, a.len) == 0);
    cr_expect_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

Test(seed, names_and_sizes_are_bounded)
{
    static const char *const bad[] = {
        "", "-a", "a-", "A", "a/b", "a.b", "..", "a b", "user-data-of-more-than-31-letter-s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_STR_MAP const struct str_map *one = str_map_new((struct str_pair[]){{bad[i], ""}}, 1);
        cr_expect_not(seed_ok(one), "%s", bad[i]);
    }
    AUTO_FREE char *large = xcalloc(1, SEED_BYTES + 1);
    memset(large, 'x', SEED_BYTES);
    AUTO_STR_MAP const struct str_map *much = str_map_new((struct str_pair[]){{"a", large}}, 1);
    cr_expect_not(seed_ok(much));
    struct str_pair many[SEED_FILES + 1];
    char names[SEED_FILES + 1][2] = {0};
    for (int i = 0; i <= SEED_FILES; i++) {
        names[i][0] = (char)('a' + i);
        many[i] = (struct str_pair){names[i], ""};
    }
    AUTO_STR_MAP const struct str_map *most = str_map_new(many, SEED_FILES),
                                      *more = str_map_new(many, SEED_FILES + 1);
    cr_expect(seed_ok(most));
    cr_expect_not(seed_ok(more));
    cr_expect_not(seed_ok(NULL));
}
