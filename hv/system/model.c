/* What a simulated host's system has: the files that the parts look for, in a folder of their own. Its
 * programs do nothing; what they were told is in the file "ran". */
#include "internal.h"
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>

#define RAN "/ran"
#define RAN_MAX (256 * 1024)

static const struct {
    const char *path, *text;
} files[] = {
    {"/usr/lib/systemd/system/ssh.service", ""},
    {"/usr/lib/systemd/system/systemd-timesyncd.service", ""},
    {"/etc/rsyslog.conf", ""},
    {"/usr/share/zoneinfo/tzdata.zi",
     "# version model\nZ Africa/Nairobi\nZ America/New_York\nZ America/Sao_Paulo\nZ Asia/Tokyo\nZ "
     "Australia/Sydney\n"
     "Z Etc/UTC\nZ Europe/Berlin\nZ Europe/London\nL Europe/Berlin Europe/Oslo\n"},
    {"/sys/class/vtconsole/vtcon0/name", "(S) dummy device\n"},
    {"/sys/class/vtconsole/vtcon0/bind", "0\n"},
    {"/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n"},
    {"/sys/class/vtconsole/vtcon1/bind", "1\n"},
    {"/sys/devices/system/cpu/cpu0/cpuidle/state0/name", "POLL\n"},
    {"/sys/devices/system/cpu/cpu0/cpuidle/state0/disable", "0\n"},
    {"/sys/devices/system/cpu/cpu0/cpuidle/state1/name", "C1E\n"},
    {"/sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "0\n"},
    {"/sys/devices/system/cpu/cpu0/cpuidle/state2/name", "C6\n"},
    {"/sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "0\n"},
    {RAN, ""}, /* last: then all of it is there */
};

int system_model_make(struct hv_system *sys, struct hv_err *err)
{
    for (size_t i = 0; !system_has(sys, RAN) && i < ARRAY_LEN(files); i++)
        if (system_write(sys, files[i].path, files[i].text, err) < 0)
            return -1;
    return 0;
}

int system_model_run(const struct hv_system *sys, const char *const *argv, struct hv_err *err)
{
    char *path AUTO_FREE = system_path(sys, RAN);
    FILE *file = fopen(path, "ae");
    if (!file)
        return hv_fail(err, HV_ERR_KIND_IO, "The simulated system cannot note a program: %s",
                       strerror(errno));
    if (ftell(file) > RAN_MAX && ftruncate(fileno(file), 0) < 0)
        errno = 0; /* it grows on: nothing depends on it */
    for (size_t i = 0; argv[i]; i++)
        fprintf(file, "%s%s", i ? " " : "", argv[i]);
    fputc('\n', file);
    fclose(file);
    return 0;
}
