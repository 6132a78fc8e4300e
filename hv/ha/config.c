/* STATE/ha/: config.json (written before a watchdog starts, removed when it is told to end), fenced (the
 * guests were ended), lock and socket of the watchdog. */
#include "watchdog.h"

#include <base/buf.h>
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int64_t watchdog_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void watchdog_config_done(struct watchdog_config *config)
{
    free(config->path);
    free(config->hosts);
    *config = (struct watchdog_config){0};
}

int watchdog_config_write(const char *state_dir, const struct watchdog_config *config)
{
    AUTO_FREE char *folder = xasprintf("%s/ha", state_dir), *path = xasprintf("%s/ha/config.json", state_dir);
    AUTO_JSON json_t *hosts = json_array();
    for (size_t i = 0; i < config->host_count; i++)
        json_array_append_new(hosts, json_string(config->hosts[i]));
    AUTO_JSON json_t *json =
        json_pack("{sssssOsIsIsIsI}", "generation", config->generation, "path", config->path, "hosts", hosts,
                  "own", (json_int_t)config->own, "interval_ms", (json_int_t)config->interval_ms, "lease_ms",
                  (json_int_t)config->lease_ms, "agent_ms", (json_int_t)config->agent_ms);
    AUTO_FREE char *text = json_dumps(json, JSON_COMPACT);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return -1;
    return text ? file_write_atomic(path, text, strlen(text), 0600) : -1;
}

/* A month at most: sums of times stay sound. */
static bool is_span(int64_t ms)
{
    return ms >= 1 && ms <= INT32_MAX;
}

bool watchdog_config_read(const char *state_dir, struct watchdog_config *config)
{
    AUTO_FREE char *path = xasprintf("%s/ha/config.json", state_dir);
    size_t len, index;
    AUTO_FREE char *text = file_read(path, 1 << 16, &len);
    struct json_error bad;
    AUTO_JSON json_t *json = text ? json_parse(text, len, &bad) : NULL;
    json_t *host;
    const json_t *hosts = json_object_get(json, "hosts");
    const char *generation, *file;
    struct watchdog_config c = {0};
    int64_t own = -1;
    if (!json_get_string(json, "generation", &generation) || !json_get_string(json, "path", &file) ||
        !json_get_int(json, "own", &own) || !json_get_int(json, "interval_ms", &c.interval_ms) ||
        !json_get_int(json, "lease_ms", &c.lease_ms) || !json_get_int(json, "agent_ms", &c.agent_ms) ||
        json_array_size(hosts) > STATEFILE_HOSTS_MAX || own < 0 || own >= (int64_t)json_array_size(hosts) ||
        !is_span(c.interval_ms) || !is_span(c.lease_ms) || !is_span(c.agent_ms))
        return false;
    c.path = xstrdup(file);
    c.own = (size_t)own;
    c.hosts = xcalloc(json_array_size(hosts) + 1, sizeof(*c.hosts));
    snprintf(c.generation, sizeof(c.generation), "%s", generation);
    json_array_foreach(hosts, index, host) snprintf(c.hosts[c.host_count++], UUID_TEXT_SIZE, "%s",
                                                    json_is_string(host) ? json_string_value(host) : "");
    *config = c;
    return true;
}

void watchdog_config_remove(const char *state_dir)
{
    AUTO_FREE char *path = xasprintf("%s/ha/config.json", state_dir);
    unlink(path);
}

bool watchdog_was_fenced(const char *state_dir)
{
    AUTO_FREE char *path = xasprintf("%s/ha/fenced", state_dir);
    return access(path, F_OK) == 0;
}

void watchdog_forget_fence(const char *state_dir)
{
    AUTO_FREE char *path = xasprintf("%s/ha/fenced", state_dir);
    unlink(path);
}
