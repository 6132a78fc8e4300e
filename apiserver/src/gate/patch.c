#include "patch.h"

#include "gate.h"
#include "generic.h"
#include "roles.h"
#include "session.h"
#include "work.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>

struct patch {
    struct server *server;
    struct session *session;
    const char *peer;
    struct ref object;
    const struct class_desc *cls;
    struct call **calls; /* prepared, one a field */
    size_t count;
};

static void dropped(struct call *call)
{
    call_free(call);
}

static struct call *new_call(const struct patch *p, const char *name, json_t *value)
{
    AUTO_JSON json_t *params = json_array();
    json_array_append_new(params, json_string(REF_TEXT(p->session->token)));
    json_array_append_new(params, json_string(REF_TEXT(p->object)));
    json_array_append(params, value);
    return call_new(p->server, name, params, false, p->peer, dropped);
}

bool patch_stores_only(const struct method_desc *setter)
{
    return setter->kind == METHOD_SETTER && !(setter->flags & METHOD_HANDLER) && setter->operation_param < 0;
}

/* The value before, as a setter's parameter. NULL: the row is gone. */
static json_t *value_now(const struct patch *p, const struct field_desc *field)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(p->server->store);
    const struct row *row = snapshot_get(snap, p->cls, p->object);
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error error;
    if (!row)
        return NULL;
    cell_write_json(field->type, row_cell(row, field), &text);
    return json_parse(text.data, text.len, &error);
}

static const struct field_desc *field_of(const struct patch *p, const struct method_desc *setter)
{
    return field_find(p->cls, strstr(setter->name, ".set_") + 5);
}

/* Puts back what setters with handlers have changed, the last one first. */
static void undo(const struct patch *p, const struct patch_field *fields, json_t **before, size_t count)
{
    while (count-- > 0) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        if (!before[count])
            continue;
        if (gate_call_blocking(new_call(p, fields[count].setter->name, before[count]), &err) < 0)
            log_error("patch", "a field could not be put back after another one was refused", "message",
                      fields[count].setter->name, "object", REF_TEXT(p->object), "error", err.code);
    }
}

static int run_handlers(const struct patch *p, const struct patch_field *fields, struct api_err *err)
{
    json_t **before = xcalloc(p->count, sizeof(json_t *));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->count; i++) {
        if (patch_stores_only(p->calls[i]->method))
            continue;
        json_t *now = value_now(p, field_of(p, fields[i].setter));
        rc = gate_call_blocking(new_call(p, fields[i].setter->name, fields[i].value), err);
        if (rc < 0)
            undo(p, fields, before, i);
        before[i] = now;
    }
    for (size_t i = 0; i < p->count; i++)
        json_decref(before[i]);
    free(before);
    return rc;
}

/* `generation` 0: any version. */
static int store_values(const struct patch *p, uint64_t generation, bool *changed, struct api_err *err)
{
    struct tx *tx = store_begin(p->server->store);
    const struct row *row = tx_get(tx, p->cls, p->object);
    int rc = 0;
    if (row && generation && row->generation != generation) {
        *changed = true;
        rc = -1;
    }
    for (size_t i = 0; rc == 0 && i < p->count; i++)
        if (patch_stores_only(p->calls[i]->method))
            rc = generic_change(tx, p->calls[i]->method, p->calls[i]->args, err);
    if (rc < 0)
        tx_abort(tx);
    else
        rc = server_commit(tx, err);
    for (size_t i = 0; !*changed && i < p->count; i++)
        if (patch_stores_only(p->calls[i]->method)) {
            if (rc < 0)
                api_err_copy(&p->calls[i]->err, err);
            work_log_outcome(p->calls[i], rc);
        }
    return rc;
}

static bool has_handlers(const struct patch *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (!patch_stores_only(p->calls[i]->method))
            return true;
    return false;
}

static bool is_version(const struct patch *p, uint64_t generation)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(p->server->store);
    const struct row *row = snapshot_get(snap, p->cls, p->object);
    return row && row->generation == generation;
}

static int apply(const struct patch *p, const struct patch_field *fields, uint64_t generation, bool *changed,
                 struct api_err *err)
{
    if (has_handlers(p)) {
        if (generation && !is_version(p, generation)) {
            *changed = true;
            return -1;
        }
        if (run_handlers(p, fields, err) < 0)
            return -1;
        generation = 0; /* they have made a new version */
    }
    return store_values(p, generation, changed, err);
}

int patch_apply(struct server *server, struct session *session, const char *peer, struct ref object,
                const struct patch_field *fields, size_t count, uint64_t generation, bool *changed,
                struct api_err *err)
{
    struct patch p = {server, session, peer, object, count ? fields[0].setter->cls : NULL, NULL, 0};
    int rc = 0;
    *changed = false;
    p.calls = xcalloc(count ? count : 1, sizeof(struct call *));
    for (; rc == 0 && p.count < count; p.count++) {
        struct call *call = new_call(&p, fields[p.count].setter->name, fields[p.count].value);
        p.calls[p.count] = call;
        rc = gate_prepare(call, &call->err);
        if (rc < 0)
            api_err_copy(err, &call->err);
    }
    if (rc == 0 && count)
        rc = apply(&p, fields, generation, changed, err);
    for (size_t i = 0; i < p.count; i++) {
        p.calls[i]->failed = rc < 0;
        call_free(p.calls[i]);
    }
    free(p.calls);
    return rc;
}
