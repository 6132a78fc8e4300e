/* The agents' side of the handlers' tests. All state is under one lock: the server's own threads call too. */
#include "fake.h"
#include "../../src/handlers/storage.h"
#include "../../src/hosts/hosts.h"
#include <base/mem.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>

struct fake fake;

struct hv_host {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool interrupted;
    char uuid[UUID_TEXT_SIZE];
};

/* ---- hv/client.h ---- */

int hv_host_open(const struct hv_host_address *address, struct hv_host **host, struct hv_err *err)
{
    (void)err;
    struct hv_host *h = xcalloc(1, sizeof(*h));
    snprintf(h->uuid, sizeof(h->uuid), "%s", address->host_uuid);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    *host = h;
    return 0;
}

void hv_host_close(struct hv_host *host)
{
    free(host);
}

void hv_host_interrupt(struct hv_host *host)
{
    pthread_mutex_lock(&host->lock);
    host->interrupted = true;
    pthread_cond_broadcast(&host->changed);
    pthread_mutex_unlock(&host->lock);
}

struct hv_host *hv_host_stand_in(const char *host_uuid, void (*asked)(void *arg, const char *host_uuid),
                                 void *arg)
{
    (void)host_uuid, (void)asked, (void)arg;
    abort(); /* nothing is planned here */
}

const char *hv_host_uuid(const struct hv_host *host)
{
    return host->uuid;
}

/* The thread that follows the host sleeps here until the end. */
static int wait_for_the_end(struct hv_host *host, struct hv_err *err)
{
    pthread_mutex_lock(&host->lock);
    while (!host->interrupted)
        pthread_cond_wait(&host->changed, &host->lock);
    pthread_mutex_unlock(&host->lock);
    return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "interrupted");
}

int hv_disk_import(struct hv_host *host, const struct hv_op *op, const struct hv_disk_import_args *args,
                   hv_read_fn *read_fn, void *read_ctx, struct hv_disk_import_result *result,
                   struct hv_err *err)
{
    (void)host, (void)op, (void)args, (void)read_fn, (void)read_ctx, (void)result;
    return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "no streams here");
}

int hv_disk_export(struct hv_host *host, const struct hv_op *op, const struct hv_disk_export_args *args,
                   int (*begin)(void *ctx, int64_t size_bytes), hv_write_fn *write_fn, void *write_ctx,
                   struct hv_err *err)
{
    (void)host, (void)op, (void)args, (void)begin, (void)write_fn, (void)write_ctx;
    return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "no streams here");
}

int hv_console_open(struct hv_host *host, const char *domain_uuid, const char *kind, int64_t timeout_ms,
                    struct stream **out, struct hv_err *err)
{
    (void)host, (void)domain_uuid, (void)kind, (void)timeout_ms, (void)out;
    return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "no streams here");
}

int hv_disk_serve(struct hv_host *host, const char *sr, const char *disk, const char *iso, int64_t timeout_ms,
                  struct stream **out, struct hv_err *err)
{
    (void)host, (void)sr, (void)disk, (void)iso, (void)timeout_ms, (void)out;
    return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "no streams here");
}

/* ---- disks ---- */

static struct fake_disk *find(const char *name)
{
    for (size_t i = 0; i < fake.disk_count; i++)
        if (streq(fake.disks[i].name, name))
            return &fake.disks[i];
    return NULL;
}

bool fake_has_disk(const char *name)
{
    return find(name) != NULL;
}

void fake_add_disk(const char *sr_uuid, const char *name, int64_t size_bytes)
{
    struct fake_disk *disk = &fake.disks[fake.disk_count++];
    cr_assert(fake.disk_count <= ARRAY_LEN(fake.disks));
    snprintf(disk->sr, sizeof(disk->sr), "%s", sr_uuid);
    snprintf(disk->name, sizeof(disk->name), "%s", name);
    disk->size_bytes = size_bytes;
}

static void fill_info(struct disk_info *info, const struct fake_disk *disk)
{
    struct ref uuid;
    str_assign(&info->name, disk->name);
    str_assign(&info->uuid, uuid_parse(disk->name, &uuid) ? disk->name : "");
    info->virtual_size_bytes = disk->size_bytes;
    info->physical_bytes = disk->size_bytes / 8;
    info->read_only = !*info->uuid;
}

static void fill_stats(struct sr_stats *stats)
{
    stats->physical_size_bytes = 100 * FAKE_GIB;
    stats->physical_free_bytes = 60 * FAKE_GIB;
}

static int create(const char *sr, const char *name, int64_t size, struct disk_info *info, struct hv_err *err)
{
    if (find(name))
        return hv_fail(err, HV_ERR_KIND_EXISTS, "there is one");
    fake_add_disk(sr, name, size);
    fill_info(info, find(name));
    return 0;
}

static void destroy(const char *name)
{
    struct fake_disk *disk = find(name);
    if (disk)
        *disk = fake.disks[--fake.disk_count];
}

/* ---- calls ---- */

static int scan(const struct hv_sr_scan_args *args, struct hv_sr_scan_result *result)
{
    fill_stats(&result->stats);
    for (size_t i = 0; i < fake.disk_count; i++)
        if (streq(fake.disks[i].sr, args->sr))
            fill_info(hv_sr_scan_result_add_disks(result), &fake.disks[i]);
    return 0;
}

static int copy(const struct hv_disk_copy_args *args, struct hv_disk_copy_result *result, struct hv_err *err)
{
    const struct fake_disk *from = find(args->disk);
    if (!from)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "no such disk");
    return create(args->new_sr, args->new_disk, from->size_bytes, &result->info, err);
}

static int resize(const struct hv_disk_resize_args *args, struct hv_disk_resize_result *result,
                  struct hv_err *err)
{
    struct fake_disk *disk = find(args->disk);
    if (!disk)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "no such disk");
    disk->size_bytes = args->virtual_size_bytes;
    fill_info(&result->info, disk);
    return 0;
}

static int info(const struct hv_disk_info_args *args, struct hv_disk_info_result *result, struct hv_err *err)
{
    const struct fake_disk *disk = find(args->disk && *args->disk ? args->disk : args->iso);
    if (!disk)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "no such disk");
    fill_info(&result->info, disk);
    return 0;
}

int fake_default(enum hv_call_id call, const void *args, void *result, struct hv_err *err)
{
    const struct hv_disk_create_args *made = args;
    switch (call) {
    case HV_CALL_SR_CREATE:
        fill_stats(&((struct hv_sr_create_result *)result)->stats);
        return 0;
    case HV_CALL_SR_ATTACH:
        fill_stats(&((struct hv_sr_attach_result *)result)->stats);
        return 0;
    case HV_CALL_SR_STATS:
        fill_stats(&((struct hv_sr_stats_result *)result)->stats);
        return 0;
    case HV_CALL_SR_SCAN:
        return scan(args, result);
    case HV_CALL_DISK_CREATE:
        return create(made->sr, made->disk, made->virtual_size_bytes,
                      &((struct hv_disk_create_result *)result)->info, err);
    case HV_CALL_DISK_DESTROY:
        destroy(((const struct hv_disk_destroy_args *)args)->disk);
        return 0;
    case HV_CALL_DISK_COPY:
        return copy(args, result, err);
    case HV_CALL_DISK_CLONE:
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "no thin copies here");
    case HV_CALL_DISK_RESIZE:
        return resize(args, result, err);
    case HV_CALL_DISK_INFO:
        return info(args, result, err);
    default:
        return 0; /* SR_FORGET, CD_INSERT, CD_EJECT, HOST_FACTS, DOMAIN_LIST: nothing to say */
    }
}

static void note(enum hv_call_id call, const void *args)
{
    const char *object = "";
    if (call == HV_CALL_DISK_CREATE)
        object = ((const struct hv_disk_create_args *)args)->disk;
    else if (call == HV_CALL_DISK_DESTROY)
        object = ((const struct hv_disk_destroy_args *)args)->disk;
    else if (call == HV_CALL_CD_INSERT)
        object = ((const struct hv_cd_insert_args *)args)->device;
    cr_assert(fake.log_count < ARRAY_LEN(fake.log));
    snprintf(fake.log[fake.log_count++], sizeof(fake.log[0]), "%s %s", hv_calls[call].name, object);
}

size_t fake_count(const char *call)
{
    size_t count = 0;
    for (size_t i = 0; i < fake.log_count; i++)
        count += strncmp(fake.log[i], call, strlen(call)) == 0 && fake.log[i][strlen(call)] == ' ';
    return count;
}

int hv_call(struct hv_host *host, enum hv_call_id call, const struct hv_op *op, const void *args,
            void *result, struct hv_err *err)
{
    static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP; /* hooks may make calls */
    cr_assert(hv_calls[call].kind == HV_CALL_READ || (op && op->id), "%s without an id", hv_calls[call].name);
    if (call == HV_CALL_EVENTS_WAIT)
        return wait_for_the_end(host, err);
    pthread_mutex_lock(&lock);
    wire_init(hv_calls[call].result, result);
    if (call != HV_CALL_HOST_FACTS && call != HV_CALL_DOMAIN_LIST)
        note(call, args);
    int rc = fake.hook ? fake.hook(call, args, result, err) : fake_default(call, args, result, err);
    if (rc < 0)
        wire_done(hv_calls[call].result, result);
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- the server ---- */

static struct ref add_sr(struct tx *tx, const char *type, const char *content, struct ref *pbd_ref)
{
    struct sr_row *sr = sr_row_mut(tx_create(tx, CLASS_SR));
    str_assign(&sr->type, type);
    str_assign(&sr->content_type, content);
    struct pbd_row *pbd = pbd_row_mut(tx_create(tx, CLASS_PBD));
    pbd->host = fake.host;
    pbd->SR = sr->row.ref;
    pbd->attach_wanted = pbd->currently_attached = true;
    *pbd_ref = pbd->row.ref;
    return sr->row.ref;
}

static void add_rows(void)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref iso_pbd;
    struct tx *tx = store_begin(fake.server.store);
    storage_bootstrap(tx);
    fake.server.pool_ref = tx_create(tx, CLASS_pool)->ref;
    struct host_row *host = host_row_mut(tx_create(tx, CLASS_host));
    fake.host = host->row.ref;
    host->agent_port = 1;
    struct host_metrics_row *metrics = host_metrics_row_mut(tx_create(tx, CLASS_host_metrics));
    metrics->live = true;
    host->metrics = metrics->row.ref;
    fake.sr = add_sr(tx, "file", "user", &fake.pbd);
    fake.iso = add_sr(tx, "iso", "iso", &iso_pbd);
    cr_assert_eq(server_commit(tx, &err), 0);
}

void fake_start(void)
{
    struct store_err err;
    const struct store_config config = {.path = NULL};
    fake = (struct fake){0};
    fake.server.state_dir = "";
    cr_assert_eq(store_open(&fake.server.store, &config, &err), 0, "%s", err.text);
    add_rows();
    fake.server.hosts = hosts_new(&fake.server, 5000);
    fake.log_count = 0;
}

void fake_stop(void)
{
    hosts_stop(fake.server.hosts);
    hosts_free(fake.server.hosts);
    store_close(fake.server.store);
}

struct call *fake_call(void)
{
    struct call *call = xcalloc(1, sizeof(*call));
    call->server = &fake.server;
    call->snapshot = store_snapshot(fake.server.store);
    return call;
}

void fake_call_done(struct call **call)
{
    snapshot_unref((*call)->snapshot);
    free(*call);
}
