/* What the firmware of a domain keeps between runs: UEFI variables and a TPM, given to a host and taken from
 * it, over deaths of the agent and over a suspend. The guest's firmware is OVMF, which writes to both by
 * itself as it starts. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <hv/efivars.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define STATE "33333333-3333-4333-8333-666666666666"
#define BOOT_MS 180000
#define SECURE "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"

static struct fixture f;

static void start(void)
{
    fixture_start(&f, "qemu");
    if (access(SECURE, R_OK) < 0 || access("/usr/bin/swtpm", X_OK) < 0) {
        fixture_stop(&f);
        cr_skip_test("OVMF or swtpm is not installed");
    }
}

static void start_sim(void)
{
    fixture_start(&f, "sim");
}

static void stop(void)
{
    fixture_stop(&f);
}

TestSuite(firmware, .init = start, .fini = stop, .timeout = 300);
TestSuite(firmware_sim, .init = start_sim, .fini = stop, .timeout = 120);

static void keep(const char *variables, const char *tpm)
{
    struct hv_domain_keep_args args = {.domain = VM, .variables = variables, .tpm = tpm};
    struct hv_domain_keep_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_domain_keep(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
}

/* False: the host keeps nothing. */
static bool kept(struct hv_domain_kept_result *result)
{
    struct hv_domain_kept_args args = {.domain = VM};
    struct hv_err err = {0};
    int rc = hv_domain_kept(f.host, NULL, &args, result, &err);
    cr_assert(rc == 0 || err.kind == HV_ERR_KIND_NOT_FOUND, "%s", err.text);
    return rc == 0;
}

/* How many processes have the folder of the domain's TPM for theirs. */
static int count_tpms(void)
{
    int n = 0;
    DIR *list = opendir("/proc");
    for (struct dirent *e; (e = readdir(list));) {
        char path[300], at[4096];
        snprintf(path, sizeof(path), "/proc/%s/cwd", e->d_name);
        ssize_t len = readlink(path, at, sizeof(at));
        n += len > 0 && memmem(at, (size_t)len, f.tag, strlen(f.tag)) && memmem(at, (size_t)len, ".tpm", 4);
    }
    closedir(list);
    return n;
}

/* QEMU and TPM of a domain have one user, who owns the TPM's folder, too. */
static void check_users(void)
{
    char path[300];
    struct stat model, folder;
    struct domain_info info = must_info(&f);
    snprintf(path, sizeof(path), "/proc/%d", (int)info.pid);
    cr_assert_eq(stat(path, &model), 0);
    snprintf(path, sizeof(path), "%s/nvram/" VM ".tpm", f.state);
    cr_assert_eq(stat(path, &folder), 0);
    cr_expect_eq(model.st_uid, folder.st_uid);
    cr_expect(geteuid() != 0 || model.st_uid == 0x70000000 + info.domid, "user %u", model.st_uid);
    domain_info_done(&info);
}

static void no_tpm_is_left(void)
{
    int64_t end = clock_mono_ms() + 20000;
    while (count_tpms() > 0) {
        cr_assert_lt(clock_mono_ms(), end, "the process of a TPM is left");
        poll(NULL, 0, 50);
    }
}

static bool has_variable(const char *text, enum efi_vendor vendor, const char *name)
{
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    cr_assert_eq(efi_vars_read_text(text, &vars), 0, "not a list of variables");
    return efi_vars_find(&vars, vendor, name) != NULL;
}

/* Waits until the firmware has come to its boot options and its TPM has been written to. */
static void firmware_has_run(void)
{
    int64_t end = clock_mono_ms() + BOOT_MS;
    for (bool ready = false; !ready;) {
        struct hv_domain_kept_result result;
        hv_domain_kept_result_init(&result);
        hv_domain_kept_result_done(&result);
        ready =
            kept(&result) && *result.tpm && has_variable(result.variables, EFI_VENDOR_GLOBAL, "BootOrder");
        hv_domain_kept_result_done(&result);
        cr_assert_lt(clock_mono_ms(), end, "the firmware wrote nothing down");
        poll(NULL, 0, ready ? 0 : 200);
    }
}

static void describe(struct domain_config *config)
{
    small_domain(config);
    config->memory_bytes = 96 << 20;
    config->firmware = FIRMWARE_UEFI;
    config->secure_boot = SECURE_BOOT_ON;
    config->tpm = true;
    str_assign(&config->generation, "55555555-5555-4555-8555-555555555555");
}

static void run(const struct domain_config *config)
{
    struct domain_info info = must_start(&f, config);
    domain_info_done(&info);
}

Test(firmware, variables_and_a_tpm_survive_and_leave_nothing)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_domain_kept_result first, second;
    fixture_storage(&f);
    describe(&config);
    keep("", "");
    run(&config);
    firmware_has_run();
    cr_expect_eq(count_tpms(), 1);
    check_users();
    /* The agent dies: the domain and its TPM go on, and the next agent ends both. */
    fixture_kill(&f);
    fixture_launch(&f);
    cr_expect_eq(count_tpms(), 1);
    struct domain_info info = must_info(&f);
    cr_expect(info.kept_mark && *info.kept_mark);
    domain_info_done(&info);
    struct hv_domain_keep_args args = {.domain = VM, .variables = "", .tpm = ""};
    struct hv_domain_keep_result refused;
    struct hv_err err = {0};
    cr_expect_eq(hv_domain_keep(f.host, NULL, &args, &refused, &err), -1);
    cr_expect_eq(err.kind, HV_ERR_KIND_BAD_STATE, "what is in use was replaced");
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    no_tpm_is_left();
    cr_assert(kept(&first));
    cr_expect(has_variable(first.variables, EFI_VENDOR_GLOBAL, "PK"), "the shipped keys");
    cr_expect_not(has_variable(first.variables, EFI_VENDOR_SECURE_BOOT_ENABLE, "SecureBootEnable"));
    /* As on another host. */
    must_call(&f, HV_CALL_DOMAIN_PURGE, VM);
    cr_expect_not(kept(&second), "something is left of a VM that is gone");
    cr_expect_eq(fixture_count(&f, "nvram"), 0);
    keep(first.variables, first.tpm);
    cr_assert(kept(&second));
    cr_expect_str_eq(first.variables, second.variables);
    cr_expect_str_eq(first.tpm, second.tpm);
    hv_domain_kept_result_done(&second);
    run(&config);
    check_users(); /* another user, who could read what the one before had left */
    cr_assert(kept(&second));
    cr_expect(has_variable(second.variables, EFI_VENDOR_GLOBAL, "BootOrder"), "from the last run");
    hv_domain_kept_result_done(&second);
    hv_domain_kept_result_done(&first);
    /* QEMU dies: so does its TPM. */
    char *cursor AUTO_FREE = cursor_now(&f);
    info = must_info(&f);
    kill((pid_t)info.pid, SIGKILL);
    domain_info_done(&info);
    must_become(&f, cursor, DOMAIN_STATE_GONE, END_REASON_DEVICE_MODEL_DIED, 20000);
    no_tpm_is_left();
    must_call(&f, HV_CALL_DOMAIN_PURGE, VM);
}

Test(firmware, a_domain_with_a_tpm_is_suspended_and_resumed)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    fixture_storage(&f);
    describe(&config);
    run(&config);
    firmware_has_run();
    struct hv_op op = fresh_op(), again = fresh_op();
    struct hv_err err = {0};
    struct hv_domain_suspend_args suspend = {.domain = VM, .sr = SR, .disk = STATE};
    struct hv_domain_suspend_result suspended;
    must_create(&f, STATE, 400 << 20);
    op.timeout_ms = 120000;
    cr_assert_eq(hv_domain_suspend(f.host, &op, &suspend, &suspended, &err), 0, "%s", err.text);
    no_tpm_is_left();
    struct hv_domain_resume_args resume = {.sr = SR, .disk = STATE};
    struct hv_domain_resume_result resumed;
    domain_config_copy(&resume.config, &config);
    str_assign(&resume.config.generation, "66666666-6666-4666-8666-666666666666");
    again.timeout_ms = 120000;
    cr_assert_eq(hv_domain_resume(f.host, &again, &resume, &resumed, &err), 0, "%s", err.text);
    cr_expect_eq(resumed.info.state, DOMAIN_STATE_RUNNING);
    hv_domain_resume_result_done(&resumed);
    domain_config_done(&resume.config);
    firmware_has_run();
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    no_tpm_is_left();
    must_call(&f, HV_CALL_DOMAIN_PURGE, VM);
}

Test(firmware, what_is_no_list_of_variables_is_refused_at_the_start)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_op op = fresh_op();
    struct hv_domain_start_result result;
    struct hv_err err = {0};
    fixture_storage(&f);
    describe(&config);
    keep("bm9uc2Vuc2U=", "");
    struct hv_domain_start_args args = {.config = config};
    cr_assert_eq(hv_domain_start(f.host, &op, &args, &result, &err), -1);
    cr_expect_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT);
    no_tpm_is_left();
    must_call(&f, HV_CALL_DOMAIN_PURGE, VM);
}

Test(firmware, shipped_keys_can_be_asked_for)
{
    struct hv_firmware_keys_args args = {0};
    struct hv_firmware_keys_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_firmware_keys(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    cr_expect(has_variable(result.variables, EFI_VENDOR_GLOBAL, "KEK"));
    cr_expect(has_variable(result.variables, EFI_VENDOR_IMAGE_SECURITY, "dbx"));
    hv_firmware_keys_result_done(&result);
}

/* The simulator's guests write nothing, and what they were given stays theirs. */
Test(firmware_sim, what_is_kept_is_given_back)
{
    struct hv_domain_kept_result result;
    cr_expect_not(kept(&result));
    keep("", "c2VjcmV0");
    cr_assert(kept(&result));
    cr_expect_str_eq(result.tpm, "c2VjcmV0");
    hv_domain_kept_result_done(&result);
    struct hv_domain_keep_args args = {.domain = VM, .variables = "", .tpm = "no base64"};
    struct hv_domain_keep_result refused;
    struct hv_err err = {0};
    cr_expect_eq(hv_domain_keep(f.host, NULL, &args, &refused, &err), -1);
    cr_expect_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT);
    must_call(&f, HV_CALL_DOMAIN_PURGE, VM);
    cr_expect_not(kept(&result));
}
