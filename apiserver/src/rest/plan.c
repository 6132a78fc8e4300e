/* ?plan=true on a change, and POST /plans/{id}/apply.
 *
 * A plan is made from the gate's own verdicts, without a task or a mark: the call is prepared (message, role,
 * arguments), the rules of its operation and the message's checks are asked for all that they refuse, and
 * what passes these is rehearsed (gate/rehearsal.h): its handler says what else it would refuse. plan_steps.c
 * tells what the common messages would do, plan_changes.c what the rehearsal of others has changed. The plan
 * keeps the versions of the objects that it rests on. Applying compares these and then runs the very request
 * that was planned. */
#include "plan.h"

#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/why.h"
#include "../handlers/checks.h"
#include "../handlers/storage.h"
#include "../rules/operations.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <model/args.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

#define PLANS_MAX 256
#define PLAN_MS (10 * 60 * 1000)
#define PLAN_TYPE "application/vnd.corral.plan+json"

struct kept_plan {
    char id[UUID_TEXT_SIZE];
    char *user, *sid;
    int64_t until_ms;
    struct target target;
    enum http_method method;
    json_t *body;
    struct ref host;
    struct seen *seen;
    size_t seen_count;
};
struct plans {
    pthread_mutex_t lock;               /* guards what follows */
    struct kept_plan *items[PLANS_MAX]; /* oldest first */
    size_t count;
};

struct plans *plans_new(void)
{
    struct plans *plans = xcalloc(1, sizeof(*plans));
    pthread_mutex_init(&plans->lock, NULL);
    return plans;
}

static void kept_free(struct kept_plan *kept)
{
    if (!kept)
        return;
    free(kept->user);
    free(kept->sid);
    json_decref(kept->body);
    free(kept->seen);
    free(kept);
}

void plans_free(struct plans *plans)
{
    if (!plans)
        return;
    for (size_t i = 0; i < plans->count; i++)
        kept_free(plans->items[i]);
    pthread_mutex_destroy(&plans->lock);
    free(plans);
}

bool plan_is_wanted(const struct rest *r)
{
    const char *text = http_request_query(r->req, "plan");
    return text && (streq(text, "true") || streq(text, ""));
}

bool plan_wanted(struct rest *r, bool *wanted)
{
    const char *text = http_request_query(r->req, "plan");
    *wanted = plan_is_wanted(r);
    if (!text || *wanted || streq(text, "false"))
        return true;
    rest_problem(r->req, 400, "Bad Request", "Query parameter plan: true or false.");
    return false;
}

bool plan_absent(struct rest *r)
{
    bool wanted;
    if (plan_wanted(r, &wanted) && !wanted)
        return false;
    if (wanted)
        rest_problem(r->req, 400, "Bad Request", "There is no plan of logging in or out.");
    return true;
}

/* ---- parts of a plan ---- */

void plan_saw(struct plan *p, const struct row *row)
{
    for (size_t i = 0; row && i < p->seen_count; i++)
        if (ref_eq(p->seen[i].ref, row->ref))
            return;
    if (!row)
        return;
    p->seen = xreallocarray(p->seen, p->seen_count + 1, sizeof(*p->seen));
    p->seen[p->seen_count++] = (struct seen){row->cls, row->ref, row->generation};
}

const struct row *plan_row(struct plan *p, const struct class_desc *cls, struct ref ref)
{
    const struct row *row = ref_is_null(ref) ? NULL : snapshot_get(p->snap, cls, ref);
    plan_saw(p, row);
    return row;
}

const struct vm_row *plan_vm(struct plan *p)
{
    return vm_row(plan_row(p, CLASS_VM, ((const struct args_self *)p->call->args)->self));
}

json_t *plan_name(const struct row *row)
{
    const struct class_desc *cls = row->cls;
    json_t *name = json_pack("{ss}", "class", cls->collection ? cls->collection : cls->name);
    if (cls->uuid)
        json_object_set_new(name, "uuid", json_string(row_cell(row, cls->uuid)->str));
    if (cls->name_label)
        json_object_set_new(name, "name", json_string(row_cell(row, cls->name_label)->str));
    return name;
}

void plan_step(struct plan *p, const struct row *row, const char *format, ...)
{
    AUTO_BUF struct buf text = BUF_INIT;
    va_list ap;
    va_start(ap, format);
    buf_vprintf(&text, format, ap);
    va_end(ap);
    json_array_append_new(p->steps, json_pack("{ss,so}", "do", text.data ? text.data : "", "object",
                                              row ? plan_name(row) : json_null()));
}

/* Objects among the parameters are told by uuid. */
static void add_reason(struct plan *p, const struct row *row, json_t *reason)
{
    json_t *params = json_object_get(reason, "params");
    for (size_t i = 0; i < json_array_size(params); i++)
        json_array_set_new(
            params, i, json_string(rest_param_text(p->snap, json_string_value(json_array_get(params, i)))));
    if (row)
        json_object_set_new(reason, "object", plan_name(row));
    for (size_t i = 0; i < json_array_size(p->reasons); i++)
        if (json_equal(json_array_get(p->reasons, i), reason)) {
            json_decref(reason);
            return;
        }
    json_array_append_new(p->reasons, reason);
}

void plan_refused(struct plan *p, const struct row *row, const struct api_err *err)
{
    add_reason(p, row, why_reason(err));
}

void plan_needs_space(struct plan *p, struct ref sr_ref, int64_t bytes)
{
    const struct sr_row *sr = sr_row(snapshot_get(p->snap, CLASS_SR, sr_ref));
    json_t *list = json_object_get(p->needs, "space");
    size_t i;
    json_t *item;
    if (!sr)
        return;
    json_array_foreach(list, i, item)
    {
        json_t *size = json_object_get(item, "bytes");
        if (streq(json_string_value(json_object_get(item, "sr")), sr->uuid)) {
            json_integer_set(size, json_integer_value(size) + bytes);
            return;
        }
    }
    int64_t left = sr->physical_size - sr->physical_utilisation;
    json_array_append_new(list, json_pack("{ss,sI,sI}", "sr", sr->uuid, "bytes", (json_int_t)bytes, "free",
                                          (json_int_t)(left > 0 ? left : 0)));
}

/* ---- making ---- */

static void never(struct call *call)
{
    (void)call; /* it is not run */
}

static struct call *prepared(struct plan *p, const struct method_desc *message, const json_t *params)
{
    struct rest *r = p->rest;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *all = json_pack("[s]", REF_TEXT(r->session->token));
    json_array_extend(all, (json_t *)(uintptr_t)params);
    struct call *call = call_new(p->server, message->name, all, false, http_request_peer(r->req), never);
    if (gate_prepare(call, &err) == 0)
        return call;
    plan_refused(p, NULL, &err);
    call->failed = true;
    call_free(call);
    return NULL;
}

static void hear(void *arg, const struct api_err *err)
{
    plan_refused(arg, NULL, err);
}

struct refusals plan_refusals(struct plan *p)
{
    return (struct refusals){hear, p};
}

static void ask_rules_of(struct plan *p, const struct method_desc *m, struct ref ref)
{
    const struct class_desc *cls = m->params[m->operation_param].type->cls;
    size_t i;
    json_t *reason;
    struct tx *tx = store_begin(p->server->store);
    const struct row *row = tx_get(tx, cls, ref);
    AUTO_JSON json_t *reasons = row ? why_reasons(tx, row, m->operation) : json_array();
    tx_abort(tx);
    plan_saw(p, snapshot_get(p->snap, cls, ref));
    json_array_foreach(reasons, i, reason) add_reason(p, NULL, json_incref(reason));
}

/* The rules of the operation that the message marks. */
static void ask_rules(struct plan *p)
{
    const struct method_desc *m = p->call->method;
    if (m->operation_param < 0)
        return;
    const struct param_desc *param = &m->params[m->operation_param];
    ask_rules_of(p, m, ((const union cell *)((const char *)p->call->args + param->offset))->ref);
}

/* What is known when the arguments cannot be read: the role, and the rules for the object of the path. */
static void ask_without_arguments(struct plan *p, const struct method_desc *m)
{
    const struct target *target = &p->rest->target;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (roles_require_message(p->rest->session, m, &err) < 0)
        plan_refused(p, NULL, &err);
    const struct row *row = target->uuid[0] ? snapshot_by_uuid(p->snap, target->cls, target->uuid) : NULL;
    if (row && m->operation_param == 0 && m->params[0].type->cls == row->cls)
        ask_rules_of(p, m, row->ref);
}

/* What its handler has against it. */
static void ask_handler(struct plan *p)
{
    message_check *check = message_check_of(p->call->method->name);
    const struct refusals all = plan_refusals(p);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (!check)
        return;
    struct tx *tx = store_begin(p->server->store);
    refused(&all, check(p->call, tx, p->call->args, &all, &err), &err);
    tx_abort(tx);
}

/* What the handler refuses beyond that, and what it would change. */
static void rehearse(struct plan *p)
{
    struct rehearsal *rehearsal = rehearsal_new(p->server, p->snap);
    switch (rehearsal_run(rehearsal, p->call)) {
    case REHEARSED_DONE:
        p->asks = REF_NULL;
        if (!json_array_size(p->steps))
            plan_changes(p, rehearsal);
        p->whole = true;
        break;
    case REHEARSED_REFUSED:
        plan_refused(p, NULL, &p->call->err);
        break;
    case REHEARSED_OPEN:
        if (!ref_is_null(rehearsal_asks(rehearsal)))
            p->asks = rehearsal_asks(rehearsal);
        else if (!ref_is_null(p->host))
            p->asks = p->host;
        break;
    }
    rehearsal_free(rehearsal);
}

/* The host that an operation on the object is done by; null: none, or any. */
static struct ref host_of(struct plan *p, const struct row *row)
{
    const struct vm_row *vm = NULL;
    if (row->cls == CLASS_VM)
        vm = vm_row(row);
    else if (row->cls == CLASS_VBD)
        vm = vm_row(snapshot_get(p->snap, CLASS_VM, vbd_row(row)->VM));
    else if (row->cls == CLASS_VIF)
        vm = vm_row(snapshot_get(p->snap, CLASS_VM, vif_row(row)->VM));
    else if (row->cls == CLASS_VUSB)
        vm = vm_row(snapshot_get(p->snap, CLASS_VM, vusb_row(row)->VM));
    return vm ? vm->resident_on : REF_NULL;
}

/* A call would hear from the agent that it does not answer. Settings of a VM are changed in its row. */
static void look_at_agent(struct plan *p)
{
    const struct method_desc *m = p->call->method;
    const struct type *type = m->param_count ? m->params[0].type : NULL;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref host = REF_NULL;
    if (!type || type->kind != TYPE_REF)
        return;
    struct ref self = ((const struct args_self *)p->call->args)->self;
    const struct row *row = snapshot_get(p->snap, type->cls, self);
    if (row && m->operation_param == 0 && strncmp(operation_name(type->cls, m->operation), "changing_", 9))
        host = host_of(p, row);
    else if (row && (streq(m->name, "PBD.plug") || streq(m->name, "PBD.unplug")))
        host = pbd_row(row)->host;
    p->asks = host;
    if (!ref_is_null(host) && !storage_host_is_live(p->snap, host)) {
        err_host_offline(&err, REF_TEXT(host));
        plan_refused(p, NULL, &err);
    }
}

/* All objects that it names have to be there. */
static void look_at_arguments(struct plan *p)
{
    const struct method_desc *m = p->call->method;
    for (size_t i = 0; i < m->param_count; i++) {
        const struct type *type = m->params[i].type;
        if (type->kind != TYPE_REF || !type->cls->row_size || type->cls == CLASS_session)
            continue;
        struct ref ref = ((const union cell *)((const char *)p->call->args + m->params[i].offset))->ref;
        const struct row *row = ref_is_null(ref) ? NULL : snapshot_get(p->snap, type->cls, ref);
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        plan_saw(p, row);
        if (!row && !ref_is_null(ref)) {
            fail_handle(&err, type->cls, ref);
            plan_refused(p, NULL, &err);
        }
    }
}

static void begin(struct plan *p, struct rest *r)
{
    *p = (struct plan){.rest = r,
                       .server = r->server,
                       .snap = store_snapshot(r->server->store),
                       .steps = json_array(),
                       .reasons = json_array(),
                       .needs = json_pack("{s:n, s:[]}", "memory", "space"),
                       .where = json_null()};
}

static void plan_done(struct plan *p)
{
    if (p->call) {
        p->call->failed = true; /* nobody counts it as done */
        call_free(p->call);
    }
    snapshot_unref(p->snap);
    json_decref(p->steps);
    json_decref(p->reasons);
    json_decref(p->needs);
    json_decref(p->where);
    free(p->seen);
}

/* ---- keeping and telling ---- */

static void keep(struct plan *p, char id[static UUID_TEXT_SIZE])
{
    struct rest *r = p->rest;
    struct plans *plans = r->server->plans;
    struct kept_plan *kept = xcalloc(1, sizeof(*kept)), *oldest = NULL;
    uuid_format(ref_new(), id);
    *kept = (struct kept_plan){.user = xstrdup(r->session->user),
                               .sid = xstrdup(r->session->sid),
                               .until_ms = clock_mono_ms() + PLAN_MS,
                               .target = r->target,
                               .method = r->method,
                               .body = json_incref(r->body),
                               .host = p->host,
                               .seen = TAKE_PTR(p->seen),
                               .seen_count = p->seen_count};
    snprintf(kept->id, sizeof(kept->id), "%s", id);
    pthread_mutex_lock(&plans->lock);
    if (plans->count == PLANS_MAX) {
        oldest = plans->items[0];
        memmove(plans->items, plans->items + 1, --plans->count * sizeof(plans->items[0]));
    }
    plans->items[plans->count++] = kept;
    pthread_mutex_unlock(&plans->lock);
    kept_free(oldest);
}

static void tell(struct plan *p, const char *action)
{
    static const struct http_header headers[] = {{"Content-Type", PLAN_TYPE},
                                                 {"Cache-Control", "no-store"},
                                                 {"X-Content-Type-Options", "nosniff"},
                                                 {NULL, NULL}};
    bool possible = json_array_size(p->reasons) == 0;
    char id[UUID_TEXT_SIZE], expires[RFC3339_SIZE];
    struct buf out = BUF_INIT;
    const struct row *asks = ref_is_null(p->asks) ? NULL : snapshot_get(p->snap, CLASS_host, p->asks);
    AUTO_JSON json_t *answer =
        json_pack("{ss,sb,sb,sO,sO,sO,sO,so}", "action", action, "possible", possible, "whole", p->whole,
                  "steps", p->steps, "reasons", p->reasons, "where", p->where, "needs", p->needs, "asks",
                  asks ? plan_name(asks) : json_null());
    if (possible && !p->unkept) {
        keep(p, id);
        AUTO_FREE char *apply = xasprintf("/api/v1/plans/%s/apply", id);
        json_object_set_new(answer, "id", json_string(id));
        json_object_set_new(answer, "apply", json_string(apply));
        json_object_set_new(answer, "expires",
                            json_string(rfc3339_format(clock_unix_seconds() + PLAN_MS / 1000, expires)));
    } else {
        json_object_set_new(answer, "id", json_null());
        json_object_set_new(answer, "apply", json_null());
        json_object_set_new(answer, "expires", json_null());
    }
    json_write(&out, answer);
    size_t len = out.len;
    http_answer(p->rest->req, 200, headers, buf_take(&out), len, HTTP_FREE);
}

void plan_message(struct rest *r, const json_t *params)
{
    struct plan p;
    begin(&p, r);
    p.call = prepared(&p, r->message, params);
    if (p.call) {
        look_at_arguments(&p);
        ask_rules(&p);
        ask_handler(&p);
        look_at_agent(&p);
        plan_detail(&p);
        if (!json_array_size(p.reasons))
            rehearse(&p);
        if (!json_array_size(p.steps))
            plan_step(&p, NULL, "%s", r->message->doc);
    } else {
        ask_without_arguments(&p, r->message);
    }
    tell(&p, r->message->name);
    plan_done(&p);
}

void plan_request(struct rest *r, const char *action, void (*fill)(struct plan *p, void *arg), void *arg)
{
    struct plan p;
    begin(&p, r);
    p.whole = p.unkept = true;
    fill(&p, arg);
    tell(&p, action);
    plan_done(&p);
}

void plan_refused_params(struct rest *r, const struct method_desc *message, const struct api_err *errs,
                         size_t count)
{
    struct plan p;
    begin(&p, r);
    for (size_t i = 0; i < count; i++)
        plan_refused(&p, NULL, &errs[i]);
    ask_without_arguments(&p, message);
    tell(&p, message->name);
    plan_done(&p);
}

static json_t *shown(const struct plan *p, const struct type *type, const json_t *wire)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error error;
    rest_value_write_wire(p->snap, type, wire, &text);
    return json_parse(text.data, text.len, &error);
}

static json_t *shown_now(const struct plan *p, const struct row *row, const struct field_desc *field)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error error;
    rest_value_write(p->snap, field->type, row_cell(row, field), &text);
    return json_parse(text.data, text.len, &error);
}

static void plan_field(struct plan *p, const struct row *row, const struct patch_field *wish)
{
    const char *name = strchr(wish->setter->name, '.') + strlen(".set_");
    const struct field_desc *field = public_field(row->cls, name); /* NULL: a secret is not shown */
    json_t *step = json_pack("{so,so}", "object", plan_name(row), "to",
                             field ? shown(p, wish->setter->params[1].type, wish->value) : json_null());
    AUTO_FREE char *text = xasprintf("Sets %s.", name);
    json_object_set_new(step, "do", json_string(text));
    json_object_set_new(step, "from", field ? shown_now(p, row, field) : json_null());
    json_array_append_new(p->steps, step);
}

/* In the order of patch_apply: setters with handlers come first. Each finds what those before it have set. */
static void rehearse_fields(struct plan *p, struct call **calls, size_t count)
{
    struct rehearsal *rehearsal = rehearsal_new(p->server, p->snap);
    p->whole = true;
    for (size_t i = 0; i < 2 * count; i++) {
        struct call *call = calls[i % count];
        bool first = i < count;
        if (!call || first == patch_stores_only(call->method))
            continue;
        enum rehearsed verdict = rehearsal_run(rehearsal, call);
        if (verdict == REHEARSED_REFUSED)
            plan_refused(p, NULL, &call->err);
        p->whole = p->whole && verdict == REHEARSED_DONE;
    }
    p->asks = rehearsal_asks(rehearsal);
    rehearsal_free(rehearsal);
}

void plan_patch(struct rest *r, const struct row *row, const struct patch_field *fields, size_t count,
                const struct api_err *errs, size_t err_count)
{
    struct plan p;
    begin(&p, r);
    plan_saw(&p, row);
    AUTO_FREE char *action = xasprintf("PATCH %s", row->cls->name);
    AUTO_FREE struct call **calls = xcalloc(count ? count : 1, sizeof(*calls));
    for (size_t i = 0; i < err_count; i++)
        plan_refused(&p, NULL, &errs[i]);
    for (size_t i = 0; i < count; i++) {
        AUTO_JSON json_t *params = json_pack("[sO]", REF_TEXT(row->ref), fields[i].value);
        calls[i] = prepared(&p, fields[i].setter, params);
        plan_field(&p, row, &fields[i]);
    }
    rehearse_fields(&p, calls, count);
    for (size_t i = 0; i < count; i++) {
        if (!calls[i])
            continue;
        calls[i]->failed = true; /* nobody counts it as done */
        call_free(calls[i]);
    }
    tell(&p, action);
    plan_done(&p);
}

/* ---- applying ---- */

/* Takes it out; NULL: no such plan of this user. */
static struct kept_plan *take(struct rest *r, const char *id)
{
    struct plans *plans = r->server->plans;
    struct kept_plan *found = NULL;
    pthread_mutex_lock(&plans->lock);
    for (size_t i = 0; i < plans->count; i++) {
        struct kept_plan *kept = plans->items[i];
        if (!streq(kept->id, id) || !streq(kept->user, r->session->user) ||
            !streq(kept->sid, r->session->sid))
            continue;
        found = kept;
        plans->count--;
        memmove(plans->items + i, plans->items + i + 1, (plans->count - i) * sizeof(plans->items[0]));
        break;
    }
    pthread_mutex_unlock(&plans->lock);
    return found;
}

/* The first object that is another one than the plan rests on; NULL: none. */
static char *difference(const struct snapshot *snap, const struct kept_plan *kept)
{
    for (size_t i = 0; i < kept->seen_count; i++) {
        const struct seen *seen = &kept->seen[i];
        const struct row *row = snapshot_get(snap, seen->cls, seen->ref);
        if (!row)
            return xasprintf("a %s is gone", seen->cls->name);
        if (row->generation != seen->generation)
            return xasprintf("%s %s has changed", seen->cls->name,
                             seen->cls->uuid ? row_cell(row, seen->cls->uuid)->str : "");
    }
    return NULL;
}

void rest_plan_apply(struct rest *r)
{
    struct kept_plan *kept = take(r, r->target.uuid);
    bool late = kept && kept->until_ms < clock_mono_ms();
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    AUTO_FREE char *changed = kept ? difference(snap, kept) : NULL;
    if (!kept || late || changed) {
        AUTO_FREE char *text =
            changed ? xasprintf("The world is not the one of the plan: %s. Plan again.", changed)
                    : xstrdup("There is no such plan of yours: it was applied, or ten minutes "
                              "have passed. Plan again.");
        if (changed && !late)
            rest_problem(r->req, 412, "Precondition Failed", text);
        else
            rest_problem(r->req, 404, "Not Found", text);
        kept_free(kept);
        rest_done(r);
        return;
    }
    r->target = kept->target;
    r->method = kept->method;
    r->pinned = kept->host;
    json_decref(r->body);
    r->body = json_incref(kept->body);
    kept_free(kept);
    rest_dispatch(r);
}
