/* Any bytes as what an agent finds of the agent before it in its own state folder: the record of a running
 * domain (first byte 0), that of one that ended (1), the watchdog's configuration (2). What is taken from it
 * can be written, and says the same when it is read again. */
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <ha/watchdog.h>
#include <io/rundir.h>
#include <qemu/plan.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID "11111111-1111-4111-8111-111111111111"

static char folder[] = "/tmp/corral-fuzz-state-XXXXXX";
static struct rundir run = RUNDIR_INIT;

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void leave(void)
{
    static const char *const files[] = {"ended/" UUID ".json", "ha/config.json"};
    static const char *const folders[] = {"run", "ended", "nvram", "serial", "ha", ""};
    rundir_remove(folder, UUID, &run);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char *path AUTO_FREE = path_of(files[i]);
        unlink(path);
    }
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        char *path AUTO_FREE = path_of(folders[i]);
        rmdir(path);
    }
}

static void begin(void)
{
    struct hv_err err;
    char *ha AUTO_FREE = mkdtemp(folder) ? path_of("ha") : NULL;
    if (!ha || mkdir(ha, 0700) < 0 || rundir_prepare(folder, &err) < 0 ||
        rundir_create(folder, UUID, &run, &err) < 0 || atexit(leave) != 0)
        abort();
}

static void put(const char *name, const uint8_t *data, size_t size)
{
    char *path AUTO_FREE = path_of(name);
    FILE *file = fopen(path, "w");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
}

/* The layout is read by its user, and only when it holds. */
static void take_running(void)
{
    struct rundir_record record, again;
    struct hv_err err;
    if (rundir_read_record(&run, &record) < 0)
        return;
    qemu_layout_ok(json_object_get(record.layout, "slots"), &record.config);
    if (rundir_write_record(&run, &record, &err) < 0 || rundir_read_record(&run, &again) < 0)
        abort();
    if (!wire_equal(&domain_config_desc, &record.config, &again.config) ||
        (record.layout && !json_equal(record.layout, again.layout)) || !record.offer != !again.offer ||
        strcmp(record.boot_id, again.boot_id) != 0 || record.uid != again.uid || record.anew != again.anew)
        abort();
    rundir_record_done(&again);
    rundir_record_done(&record);
}

static void take_ended(void)
{
    struct domain_info info, again;
    if (ended_read(folder, UUID ".json", &info) < 0)
        return;
    str_assign(&info.uuid, UUID);
    if (ended_write(folder, &info) < 0 || ended_read(folder, UUID ".json", &again) < 0 ||
        !wire_equal(&domain_info_desc, &info, &again))
        abort();
    domain_info_done(&again);
    domain_info_done(&info);
}

static void take_watchdog(void)
{
    struct watchdog_config config AUTO_WATCHDOG_CONFIG = {0}, again AUTO_WATCHDOG_CONFIG = {0};
    if (!watchdog_config_read(folder, &config))
        return;
    if (config.own >= config.host_count || watchdog_config_write(folder, &config) < 0 ||
        !watchdog_config_read(folder, &again) || again.host_count != config.host_count ||
        strcmp(again.path, config.path) != 0 || strcmp(again.generation, config.generation) != 0 ||
        again.lease_ms != config.lease_ms || again.agent_ms != config.agent_ms)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *file;
        void (*take)(void);
    } kinds[] = {{"run/" UUID "/config.json", take_running},
                 {"ended/" UUID ".json", take_ended},
                 {"ha/config.json", take_watchdog}};
    if (run.fd < 0)
        begin();
    if (size == 0)
        return 0;
    size_t kind = data[0] % ARRAY_LEN(kinds);
    put(kinds[kind].file, data + 1, size - 1);
    kinds[kind].take();
    return 0;
}
