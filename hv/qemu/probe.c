/* What this host can do with QEMU: which accelerator and why, which version, as whom guests run. */
#include "internal.h"
#include <base/file.h>
#include <base/mem.h>
#include <fcntl.h>
#include <stdio.h>

/* A word of the "flags" line of the first processor. */
static bool cpu_has(const char *cpuinfo, const char *flag)
{
    const char *line = cpuinfo ? strstr(cpuinfo, "\nflags") : NULL;
    const char *end = line ? strchr(line + 1, '\n') : NULL;
    size_t len = strlen(flag);
    for (const char *p = line; p && (p = strstr(p, flag)) && p < end; p += len)
        if (p[-1] == ' ' && (p[len] == ' ' || p[len] == '\n'))
            return true;
    return false;
}

enum accelerator qemu_choose_accelerator(char *reason, size_t size)
{
    char *cpuinfo AUTO_FREE = file_read("/proc/cpuinfo", 1 << 20, NULL);
    bool extensions = cpu_has(cpuinfo, "vmx") || cpu_has(cpuinfo, "svm");
    int kvm AUTO_CLOSE = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (extensions && kvm >= 0) {
        snprintf(reason, size, "The processor has virtualization extensions and /dev/kvm can be opened.");
        return ACCELERATOR_KVM;
    }
    if (kvm >= 0)
        snprintf(reason, size,
                 "Software emulation: /dev/kvm exists, but the processor shows neither vmx nor svm, so that "
                 "ordinary guests would not run with it.");
    else if (extensions)
        snprintf(reason, size,
                 "Software emulation: the processor has virtualization extensions, but /dev/kvm cannot be "
                 "opened.");
    else
        snprintf(
            reason, size,
            "Software emulation: the processor shows neither vmx nor svm, and there is no usable /dev/kvm.");
    return ACCELERATOR_TCG;
}

bool qemu_may_nest(enum accelerator accelerator)
{
    static const char *const files[] = {"/sys/module/kvm_intel/parameters/nested",
                                        "/sys/module/kvm_amd/parameters/nested"};
    if (accelerator == ACCELERATOR_TCG)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char *text AUTO_FREE = file_read(files[i], 16, NULL);
        if (text && (*text == 'Y' || *text == '1'))
            return true;
    }
    return false;
}

static int read_version(const char *binary, const char **version, struct hv_err *err)
{
    const char *const argv[] = {binary, "--version", NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc_run_options options = {.timeout_ms = 10000, .capture_max = 4096};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    char text[64];
    if (proc_run(&spec, &options, &result) < 0 || !proc_ok(&result))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "QEMU (%s) cannot be run: is qemu-system-x86 installed?",
                       binary);
    if (!result.out.data || sscanf(result.out.data, "QEMU emulator version %63[0-9.]", text) != 1)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "QEMU does not say its version.");
    str_assign(version, text);
    return 0;
}

int qemu_probe(const struct hv_driver_env *env, struct host_facts *facts, struct hv_err *err)
{
    char reason[256];
    if (read_version(env->qemu_binary, &facts->qemu_version, err) < 0)
        return -1;
    str_assign(&facts->driver, "qemu");
    facts->accelerator = qemu_choose_accelerator(reason, sizeof(reason));
    str_assign(&facts->accelerator_reason, reason);
    if (geteuid() == 0) {
        facts->guest_uid = env->guest_uid;
        if (env->guest_first_uid)
            snprintf(
                reason, sizeof(reason),
                "Each domain's device model runs as an unprivileged user of its own (%u to %u), in QEMU's "
                "sandbox.",
                env->guest_first_uid, env->guest_first_uid + GUEST_USERS - 1);
        else
            snprintf(reason, sizeof(reason),
                     "Device models run as the unprivileged user %u, in QEMU's sandbox.", env->guest_uid);
    } else {
        facts->guest_uid = geteuid();
        snprintf(reason, sizeof(reason),
                 "The agent is not root, so device models run as its own user %u, in QEMU's sandbox.",
                 geteuid());
    }
    str_assign(&facts->guest_isolation, reason);
    return 0;
}
