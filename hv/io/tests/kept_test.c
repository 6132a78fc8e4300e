/* The folder of a TPM, which belongs to its process: what that may have put there. */
#include <base/file.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <io/kept.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define VM "11111111-1111-4111-8111-111111111111"
#define OWNER 64056 /* any user but root */

static char dir[64], secret[128], folder[160];

static char *in_folder(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void setup(void)
{
    char nvram[96];
    struct hv_err err = {0};
    snprintf(dir, sizeof(dir), "/tmp/corral-kept-XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(nvram, sizeof(nvram), "%s/nvram", dir);
    cr_assert_eq(mkdir(nvram, 0700), 0);
    snprintf(secret, sizeof(secret), "%s/secret", dir);
    cr_assert_eq(file_write_atomic(secret, "secret", 6, 0600), 0);
    snprintf(folder, sizeof(folder), "%s/" VM ".tpm", nvram);
    cr_assert_eq(kept_put(dir, VM, "", "Y29udGVudHM=", &err), 0, "%s", err.text);
}

static void teardown(void)
{
    const char *const argv[] = {"rm", "-rf", dir, NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc rm;
    cr_assert_eq(proc_start(&spec, &rm), 0);
    proc_wait(&rm, -1, NULL);
}

TestSuite(kept, .init = setup, .fini = teardown);

/* The files that a process of another user left become those of this one. */
Test(kept, a_folder_changes_hands)
{
    if (geteuid() != 0)
        cr_skip_test("only root gives files away");
    for (uid_t uid = OWNER; uid < OWNER + 2; uid++) {
        struct hv_err err = {0};
        int fd = kept_open_tpm(dir, VM, &(struct kept_user){uid, uid}, &err);
        cr_assert_geq(fd, 0, "%s", err.text);
        struct stat at, file;
        cr_assert(fstat(fd, &at) == 0 && fstatat(fd, "tpm2-00.permall", &file, 0) == 0);
        cr_expect(at.st_uid == uid && file.st_uid == uid && file.st_gid == uid);
        close(fd);
    }
}

/* What leads out of the folder is neither given away nor read. */
Test(kept, nothing_leads_out_of_the_folder)
{
    static const char *const ways[] = {"symbolic", "hard", "fifo", "folder"};
    char *file AUTO_FREE = in_folder("tpm2-00.permall");
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct hv_err err = {0};
        const char *variables = NULL, *tpm = NULL;
        remove(file);
        cr_assert_eq(i == 0   ? symlink(secret, file)
                     : i == 1 ? link(secret, file)
                     : i == 2 ? mkfifo(file, 0600)
                              : mkdir(file, 0700),
                     0);
        cr_expect_eq(kept_get(dir, VM, &variables, &tpm, &err), -1, "%s", ways[i]);
        if (geteuid() == 0) {
            cr_expect_eq(kept_open_tpm(dir, VM, &(struct kept_user){OWNER, OWNER}, &err), -1, "%s", ways[i]);
            struct stat st;
            cr_expect(stat(secret, &st) == 0 && st.st_uid == 0, "%s", ways[i]);
        }
    }
}
