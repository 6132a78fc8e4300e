/* How the server itself is doing: Diagnostics.* and host.get_*_diagnostics. The server speaks for every host,
 * so each of these is about the server, whichever host is named. */
#include "../server.h"
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <ctype.h>
#include <dirent.h>
#include <handlers.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>

static int check_host(const struct call *call, struct ref ref, struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_host, ref) ? 0 : fail_handle(err, CLASS_host, ref);
}

struct figure {
    const char *name;
    uint64_t value;
};

static const struct str_map *map_of(const struct figure *figures, size_t count)
{
    const struct str_map *map = NULL;
    char text[24];
    for (size_t i = 0; i < count; i++) {
        snprintf(text, sizeof(text), "%" PRIu64, figures[i].value);
        str_map_put(&map, figures[i].name, text);
    }
    return map;
}

static const struct str_map *database(struct server *server)
{
    struct store_stats s;
    store_stats(server->store, &s);
    const struct figure figures[] = {
        {"rows", s.rows},       {"generation", s.generation}, {"commits", s.commits},
        {"batches", s.batches}, {"failures", s.failures},     {"last_commit_us", s.last_commit_us},
        {"queued", s.queued},   {"disk_bytes", s.disk_bytes},
    };
    return map_of(figures, ARRAY_LEN(figures));
}

int handle_diagnostics_db_stats(struct call *call, const struct str_map **result, struct api_err *err)
{
    (void)err;
    *result = database(call->server);
    return 0;
}

int handle_host_get_diagnostic_timing_stats(struct call *call,
                                            const struct host_get_diagnostic_timing_stats_args *args,
                                            const struct str_map **result, struct api_err *err)
{
    if (check_host(call, args->host, err) < 0)
        return -1;
    *result = database(call->server);
    return 0;
}

int handle_diagnostics_gc_compact(struct call *call, const struct diagnostics_gc_compact_args *args,
                                  struct api_err *err)
{
    if (check_host(call, args->host, err) < 0)
        return -1;
    malloc_trim(0);
    return 0;
}

int handle_diagnostics_gc_stats(struct call *call, const struct diagnostics_gc_stats_args *args,
                                const struct str_map **result, struct api_err *err)
{
    if (check_host(call, args->host, err) < 0)
        return -1;
    const struct mallinfo2 m = mallinfo2();
    const struct figure figures[] = {{"heap_bytes", m.arena},
                                     {"heap_used_bytes", m.uordblks},
                                     {"heap_free_bytes", m.fordblks},
                                     {"mapped_bytes", m.hblkhd}};
    *result = map_of(figures, ARRAY_LEN(figures));
    return 0;
}

/* One line a thread: number, state, name. */
static void write_threads(struct buf *out)
{
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *e; tasks && (e = readdir(tasks));) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        AUTO_FREE char *path = xasprintf("/proc/self/task/%s/stat", e->d_name);
        AUTO_FREE char *stat = file_read(path, 4096, NULL);
        char *open = stat ? strchr(stat, '(') : NULL, *close = stat ? strrchr(stat, ')') : NULL;
        if (open && close && close > open && close[1] && close[2])
            buf_printf(out, "%s %c %.*s\n", e->d_name, close[2], (int)(close - open - 1), open + 1);
    }
    if (tasks)
        closedir(tasks);
}

int handle_host_get_thread_diagnostics(struct call *call, const struct host_get_thread_diagnostics_args *args,
                                       const char **result, struct api_err *err)
{
    AUTO_BUF struct buf out = BUF_INIT;
    if (check_host(call, args->host, err) < 0)
        return -1;
    write_threads(&out);
    *result = str_new_len(out.data ? out.data : "", out.len);
    return 0;
}

/* One line a storage repository of the host. */
int handle_host_get_sm_diagnostics(struct call *call, const struct host_get_sm_diagnostics_args *args,
                                   const char **result, struct api_err *err)
{
    AUTO_BUF struct buf out = BUF_INIT;
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, args->host));
    if (!host)
        return fail_handle(err, CLASS_host, args->host);
    for (size_t i = 0; host->PBDs && i < host->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, host->PBDs->items[i]));
        const struct sr_row *sr = pbd ? sr_row(snapshot_get(call->snapshot, CLASS_SR, pbd->SR)) : NULL;
        if (sr)
            buf_printf(&out, "SR %s type=%s attached=%s disks=%u size=%" PRId64 " used=%" PRId64 "\n",
                       sr->uuid, sr->type, pbd->currently_attached ? "true" : "false",
                       sr->VDIs ? sr->VDIs->count : 0, sr->physical_size, sr->physical_utilisation);
    }
    *result = str_new_len(out.data ? out.data : "", out.len);
    return 0;
}
