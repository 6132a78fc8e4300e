/* VM.import: a VM whose archive the server fetches itself. What comes goes the way of PUT /import. */
#include "../fetch.h"
#include "../http/import.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define FETCHES_MAX 16 /* each holds a worker for as long as another server likes */

static _Atomic int fetch_count;

struct pulling {
    struct http_fetch *fetch;
    struct http_error error;
    bool failed;
};

static ssize_t pull(void *arg, void *data, size_t len)
{
    struct pulling *p = arg;
    ssize_t n = http_fetch_read(p->fetch, data, len, &p->error);
    p->failed = n < 0;
    return n;
}

/* What a person can do about it. The log has no more: the address may hold a password. */
static int fail_fetch(const struct call *call, const struct http_error *cause, struct api_err *err)
{
    if (call->cancel && *call->cancel)
        return err_task_cancelled(err, REF_TEXT(call->task));
    if (atomic_load(&call->server->closing))
        return fail_internal(err, "The server was stopped in the middle of the transfer.");
    AUTO_FREE char *text =
        xasprintf("It cannot be fetched: %s: %s%s", http_failure_name(cause->kind), cause->text,
                  cause->kind == HTTP_ADDRESS_REFUSED
                      ? ". The server's option --fetch-allow names networks that may be."
                      : "");
    return err_import_error(err, text);
}

static int fetch_and_import(struct call *call, const struct vm_import_args *args,
                            const struct ref_set **result, struct api_err *err)
{
    static const _Atomic bool never;
    static const struct transfer_kind kind = {.label = "VM.import", .word = "VM import", .uploads = true};
    struct pulling pulling = {0};
    struct transfer t = {.server = call->server,
                         .kind = &kind,
                         .session = call->session,
                         .task = call->task,
                         .cancel = call->cancel ? call->cancel : &never,
                         .pull = pull,
                         .pull_arg = &pulling};
    if (fetch_open(call->server, args->url, call->cancel, &pulling.fetch, &pulling.error) < 0)
        return fail_fetch(call, &pulling.error, err);
    t.length = http_fetch_length(pulling.fetch);
    const struct import_wish wish = {.sr = args->sr, .restore = args->full_restore, .force = args->force};
    int rc = import_pulled(&t, &wish, result, err);
    if (rc < 0 && pulling.failed)
        rc = fail_fetch(call, &pulling.error, err);
    log_info("transfer", rc < 0 ? "fetching failed" : "fetched", "object", t.object ? t.object : "", "bytes",
             LOG_INT(t.done), "error", rc < 0 ? err->code : "");
    http_fetch_close(pulling.fetch);
    free(t.object);
    return rc;
}

int handle_vm_import(struct call *call, const struct vm_import_args *args, const struct ref_set **result,
                     struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_SR, args->sr))
        return fail_handle(err, CLASS_SR, args->sr);
    int rc = atomic_fetch_add(&fetch_count, 1) < FETCHES_MAX ? fetch_and_import(call, args, result, err)
                                                             : err_too_busy(err);
    atomic_fetch_sub(&fetch_count, 1);
    return rc;
}

/* The machine that converts VMs of other products is a plugin of XenServer's that nobody has here. */
int handle_vm_import_convert(struct call *call, const struct vm_import_convert_args *args,
                             struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_SR, args->sr) ? err_xenapi_missing_plugin(err, "conversion")
                                                            : fail_handle(err, CLASS_SR, args->sr);
}
