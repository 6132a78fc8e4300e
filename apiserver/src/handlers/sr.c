/* SR.*: storage repositories. Making one goes to the agent first and into the database at the end, in one
 * transaction with its PBDs; a failure on the way detaches again what was attached. */
#include "../blobs.h"
#include "../hosts/hosts.h"
#include "checks.h"
#include "storage.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

static const struct sr_row *find_sr(const struct call *call, struct ref ref, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_SR, ref);
    if (!row)
        fail_handle(err, CLASS_SR, ref);
    return sr_row(row);
}

/* ---- SR.create ---- */

/* The hosts of a new SR; the first one makes it. */
struct places {
    struct place {
        struct ref host;
        struct hv_host *agent; /* NULL: not live now; attached when it comes back */
        bool attached;
    } * items;
    size_t count;
};

struct host_list {
    struct ref *refs;
    size_t count;
};

static bool list_host(const struct row *row, void *arg)
{
    struct host_list *list = arg;
    list->refs[list->count++] = row->ref;
    return true;
}

/* A host that does not answer is kept without an agent. */
static void add_place(struct call *call, struct places *places, struct ref host)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    struct place *place = &places->items[places->count++];
    *place = (struct place){.host = host};
    if (storage_host_is_live(call->snapshot, host))
        place->agent = hosts_get(call->server->hosts, host, &ignored);
}

static void places_done(struct server *server, struct places *places)
{
    for (size_t i = 0; i < places->count; i++)
        if (places->items[i].agent)
            hosts_put(server->hosts, places->items[i].agent);
    free(places->items);
}

/* `host` first, or any live one when it is null; the others only for a shared SR. */
static int find_places(struct call *call, struct ref host, bool shared, struct places *places,
                       struct api_err *err)
{
    size_t count = snapshot_count(call->snapshot, CLASS_host);
    AUTO_FREE struct ref *refs = xcalloc(count + 1, sizeof(*refs));
    struct host_list list = {.refs = refs};
    snapshot_each(call->snapshot, CLASS_host, list_host, &list);
    for (size_t i = 0; i < list.count && ref_is_null(host); i++)
        if (storage_host_is_live(call->snapshot, refs[i]))
            host = refs[i];
    struct hv_host *agent = hosts_get(call->server->hosts, host, err);
    if (!agent)
        return -1;
    places->items = xcalloc(list.count, sizeof(*places->items));
    places->items[places->count++] = (struct place){.host = host, .agent = agent};
    for (size_t i = 0; shared && i < list.count; i++)
        if (!ref_eq(refs[i], host))
            add_place(call, places, refs[i]);
    return 0;
}

static int create_on(struct hv_host *agent, const struct hv_op *op, const char *uuid,
                     const struct sr_create_args *args, struct hv_err *cause)
{
    struct hv_sr_create_args create;
    struct hv_sr_create_result result;
    hv_sr_create_args_init(&create);
    str_assign(&create.sr, uuid);
    str_assign(&create.type, args->type);
    str_map_assign(&create.config, str_map_ref(args->device_config));
    int rc = hv_sr_create(agent, op, &create, &result, cause);
    if (rc == 0)
        hv_sr_create_result_done(&result);
    hv_sr_create_args_done(&create);
    return rc;
}

static int make_and_attach(struct call *call, struct places *places, const char *uuid,
                           const struct sr_create_args *args, struct sr_stats *stats, struct api_err *err)
{
    struct hosts_op op;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    if (create_on(places->items[0].agent, &op.op, uuid, args, &cause) < 0)
        return storage_fail(err, places->items[0].host, REF_NULL, REF_NULL, "", &cause);
    for (size_t i = 0; i < places->count; i++) {
        struct place *place = &places->items[i];
        if (!place->agent)
            continue;
        hosts_op_next(&op);
        if (storage_attach(place->agent, &op.op, uuid, args->type, args->device_config, stats, &cause) < 0)
            return storage_fail(err, place->host, REF_NULL, REF_NULL, "", &cause);
        place->attached = true;
    }
    return 0;
}

static void add_pbd(struct tx *tx, struct ref sr, const struct place *place, const struct str_map *config)
{
    struct pbd_row *pbd = pbd_row_mut(tx_create(tx, CLASS_PBD));
    pbd->SR = sr;
    pbd->host = place->host;
    str_map_assign(&pbd->device_config, str_map_ref(config));
    pbd->attach_wanted = true;
    pbd->currently_attached = place->attached;
}

static const char *content_type_of(const char *type, const char *asked)
{
    if (streq(type, "iso"))
        return "iso";
    return *asked ? asked : "user";
}

static int record_new(struct call *call, const struct places *places, const char *uuid,
                      const struct sr_create_args *args, const struct sr_stats *stats, struct ref *result,
                      struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct sr_row *sr = sr_row_mut(tx_create(tx, CLASS_SR));
    str_assign(&sr->uuid, uuid);
    str_assign(&sr->name_label, args->name_label);
    str_assign(&sr->name_description, args->name_description);
    str_assign(&sr->type, args->type);
    str_assign(&sr->content_type, content_type_of(args->type, args->content_type));
    sr->shared = args->shared;
    str_map_assign(&sr->sm_config, str_map_ref(args->sm_config));
    *result = sr->row.ref;
    storage_apply_stats(tx, *result, stats);
    for (size_t i = 0; i < places->count; i++)
        add_pbd(tx, *result, &places->items[i], args->device_config);
    return server_commit(tx, err);
}

/* What the SR allows depends on its PBDs, which the transaction that makes both does not see as a set yet. */
static void refresh_new(struct server *server, struct ref sr)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(server->store);
    tx_edit(tx, CLASS_SR, sr);
    if (server_commit(tx, &err) < 0)
        log_warn("storage", "the operations of a new SR are not up to date", "sr",
                 OBJECT_TEXT(server, CLASS_SR, sr));
}

/* What is there already shows without a further call. A failure is no failure of what was asked for. */
static void scan_new(struct call *call, struct ref host, struct hv_host *agent, struct ref sr)
{
    struct storage_agent at = {call->server, host, agent}; /* borrowed: not put back here */
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct hosts_op op;
    hosts_op_init(&op, call, 0);
    hosts_op_next(&op);
    if (storage_scan(call->server, &at, sr, &op.op, &err) < 0)
        log_warn("storage", "a new SR could not be scanned", "sr", OBJECT_TEXT(call->server, CLASS_SR, sr),
                 "error", err.code);
}

struct live_search {
    const struct snapshot *snap;
    bool found;
};

static bool look_for_live(const struct row *row, void *arg)
{
    struct live_search *search = arg;
    search->found = storage_host_is_live(search->snap, row->ref);
    return !search->found;
}

/* The host that makes it: any that answers when it is null. */
static int check_maker(const struct snapshot *snap, struct ref host, struct api_err *err)
{
    struct live_search search = {.snap = snap};
    if (ref_is_null(host)) {
        snapshot_each(snap, CLASS_host, look_for_live, &search);
        return search.found ? 0 : err_host_not_live(err);
    }
    if (!snapshot_get(snap, CLASS_host, host))
        return fail_handle(err, CLASS_host, host);
    return storage_host_is_live(snap, host) ? 0 : err_host_offline(err, REF_TEXT(host));
}

int check_sr_create(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                    struct api_err *err)
{
    const struct sr_create_args *asked = args;
    (void)tx;
    if (!storage_kind_known(call->snapshot, asked->type) &&
        refused(all, err_sr_unknown_driver(err, asked->type), err))
        return -1;
    return check_maker(call->snapshot, asked->host, err);
}

int handle_sr_create(struct call *call, const struct sr_create_args *args, struct ref *result,
                     struct api_err *err)
{
    if (check_sr_create(call, NULL, args, NULL, err) < 0)
        return -1;
    struct places places = {0};
    if (find_places(call, args->host, args->shared, &places, err) < 0)
        return -1;
    char uuid[UUID_TEXT_SIZE];
    uuid_format(ref_new(), uuid);
    struct sr_stats stats = {0};
    int rc = make_and_attach(call, &places, uuid, args, &stats, err);
    if (rc == 0)
        rc = record_new(call, &places, uuid, args, &stats, result, err);
    for (size_t i = 0; rc < 0 && i < places.count; i++)
        if (places.items[i].attached)
            storage_detach_quietly(places.items[i].agent, uuid);
    if (rc == 0) {
        refresh_new(call->server, *result);
        scan_new(call, places.items[0].host, places.items[0].agent, *result);
    }
    places_done(call->server, &places);
    return rc;
}

/* ---- the other ways in and out ---- */

int check_sr_introduce(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                       struct api_err *err)
{
    const struct sr_introduce_args *asked = args;
    struct ref uuid;
    (void)tx;
    if (*asked->uuid && !uuid_parse(asked->uuid, &uuid) &&
        refused(all, err_uuid_invalid(err, "SR", asked->uuid), err))
        return -1;
    if (snapshot_by_uuid(call->snapshot, CLASS_SR, asked->uuid) &&
        refused(all, err_sr_uuid_exists(err, asked->uuid), err))
        return -1;
    return storage_kind_known(call->snapshot, asked->type) ? 0 : err_sr_unknown_driver(err, asked->type);
}

int handle_sr_introduce(struct call *call, const struct sr_introduce_args *args, struct ref *result,
                        struct api_err *err)
{
    struct ref uuid = ref_new();
    if (check_sr_introduce(call, NULL, args, NULL, err) < 0)
        return -1;
    if (*args->uuid)
        uuid_parse(args->uuid, &uuid);
    struct tx *tx = store_begin(call->server->store);
    if (tx_by_uuid(tx, CLASS_SR, UUID_TEXT(uuid))) {
        tx_abort(tx);
        return err_sr_uuid_exists(err, args->uuid);
    }
    struct sr_row *sr = sr_row_mut(tx_create(tx, CLASS_SR));
    str_assign(&sr->uuid, UUID_TEXT(uuid));
    str_assign(&sr->name_label, args->name_label);
    str_assign(&sr->name_description, args->name_description);
    str_assign(&sr->type, args->type);
    str_assign(&sr->content_type, content_type_of(args->type, args->content_type));
    sr->shared = args->shared;
    str_map_assign(&sr->sm_config, str_map_ref(args->sm_config));
    *result = sr->row.ref;
    return server_commit(tx, err);
}

static int check_unplugged(struct tx *tx, const struct sr_row *sr, struct api_err *err)
{
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached)
            return err_sr_has_pbd(err, REF_TEXT(sr->row.ref));
    }
    return 0;
}

/* The rows of an SR that nothing has plugged: its PBDs, its VDIs with their VBDs, itself. */
static int remove_rows(struct call *call, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, ref));
    if (!sr || check_unplugged(tx, sr, err) < 0) {
        tx_abort(tx);
        return sr ? -1 : fail_handle(err, CLASS_SR, ref);
    }
    AUTO_REF_SET const struct ref_set *vdis = ref_set_ref(sr->VDIs);
    AUTO_REF_SET const struct ref_set *pbds = ref_set_ref(sr->PBDs);
    blobs_delete(tx, sr->blobs);
    for (size_t i = 0; vdis && i < vdis->count; i++)
        storage_remove_vdi(tx, vdis->items[i]);
    for (size_t i = 0; pbds && i < pbds->count; i++)
        tx_delete(tx, CLASS_PBD, pbds->items[i]);
    tx_delete(tx, CLASS_SR, ref);
    return server_commit(tx, err);
}

/* Any host that had it: its folder is removed there. */
static const struct pbd_row *choose_pbd(const struct snapshot *snap, const struct sr_row *sr)
{
    const struct pbd_row *chosen = NULL;
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && (!chosen || storage_host_is_live(snap, pbd->host)))
            chosen = pbd;
    }
    return chosen;
}

static int destroy_on(struct call *call, const struct pbd_row *pbd, const struct sr_row *sr,
                      struct api_err *err)
{
    struct hv_host *agent = hosts_get(call->server->hosts, pbd->host, err);
    if (!agent)
        return -1;
    struct hosts_op op;
    struct hv_sr_destroy_args args;
    struct hv_sr_destroy_result result;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    hv_sr_destroy_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.type, sr->type);
    str_map_assign(&args.config, str_map_ref(pbd->device_config));
    int rc = hv_sr_destroy(agent, &op.op, &args, &result, &cause);
    hv_sr_destroy_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc == 0)
        hv_sr_destroy_result_done(&result);
    else if (cause.kind == HV_ERR_KIND_EXISTS)
        err_sr_not_empty(err);
    else
        storage_fail(err, pbd->host, sr->row.ref, REF_NULL, "destroy", &cause);
    return rc;
}

/* Its host is asked to remove it. */
int check_sr_destroy(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    const struct sr_row *sr = find_sr(call, ((const struct sr_destroy_args *)args)->sr, err);
    (void)tx, (void)all;
    if (!sr)
        return -1;
    const struct pbd_row *pbd = choose_pbd(call->snapshot, sr);
    if (!pbd)
        return err_sr_has_no_pbds(err, REF_TEXT(sr->row.ref));
    return storage_host_is_live(call->snapshot, pbd->host) ? 0 : err_host_offline(err, REF_TEXT(pbd->host));
}

int handle_sr_destroy(struct call *call, const struct sr_destroy_args *args, struct api_err *err)
{
    if (check_sr_destroy(call, NULL, args, NULL, err) < 0)
        return -1;
    const struct sr_row *sr = find_sr(call, args->sr, err);
    const struct pbd_row *pbd = choose_pbd(call->snapshot, sr);
    return destroy_on(call, pbd, sr, err) < 0 ? -1 : remove_rows(call, args->sr, err);
}

int handle_sr_forget(struct call *call, const struct sr_forget_args *args, struct api_err *err)
{
    return remove_rows(call, args->sr, err);
}

/* ---- looking and changing ---- */

int check_sr_reached(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    (void)tx, (void)all;
    return storage_check_reached(call->server, call->snapshot, ((const struct sr_scan_args *)args)->sr,
                                 REF_NULL, err);
}

int handle_sr_scan(struct call *call, const struct sr_scan_args *args, struct api_err *err)
{
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    if (storage_agent_get(call->server, call->snapshot, args->sr, REF_NULL, &at, err) < 0)
        return -1;
    struct hosts_op op;
    hosts_op_init(&op, call, 0);
    return storage_scan(call->server, &at, args->sr, &op.op, err);
}

int handle_sr_update(struct call *call, const struct sr_update_args *args, struct api_err *err)
{
    const struct sr_row *sr = find_sr(call, args->sr, err);
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    if (!sr || storage_agent_get(call->server, call->snapshot, args->sr, REF_NULL, &at, err) < 0)
        return -1;
    struct hv_sr_stats_args stats;
    struct hv_sr_stats_result result;
    struct hv_err cause;
    hv_sr_stats_args_init(&stats);
    str_assign(&stats.sr, sr->uuid);
    int rc = hv_sr_stats(at.agent, NULL, &stats, &result, &cause);
    hv_sr_stats_args_done(&stats);
    if (rc < 0)
        return storage_fail(err, at.host, args->sr, REF_NULL, "", &cause);
    struct tx *tx = store_begin(call->server->store);
    storage_apply_stats(tx, args->sr, &result.stats);
    hv_sr_stats_result_done(&result);
    return server_commit(tx, err);
}

int check_sr_set_shared(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                        struct api_err *err)
{
    const struct sr_set_shared_args *asked = args;
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, asked->sr));
    (void)call, (void)all;
    if (!sr)
        return fail_handle(err, CLASS_SR, asked->sr);
    return !asked->value && sr->PBDs && sr->PBDs->count > 1
               ? err_sr_has_multiple_pbds(err, REF_TEXT(sr->PBDs->items[0]))
               : 0;
}

int handle_sr_set_shared(struct call *call, const struct sr_set_shared_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (check_sr_set_shared(call, tx, args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, args->sr));
    if (sr->shared != args->value)
        sr_row_mut(tx_edit(tx, CLASS_SR, args->sr))->shared = args->value;
    return server_commit(tx, err);
}

static bool add_type(const struct row *row, void *arg)
{
    const struct str_set **types = arg;
    str_set_assign(types, str_set_with(*types, sm_row(row)->type));
    return true;
}

int handle_sr_get_supported_types(struct call *call, const struct str_set **result, struct api_err *err)
{
    (void)err;
    *result = NULL;
    snapshot_each(call->snapshot, CLASS_SM, add_type, result);
    return 0;
}

int handle_sr_get_live_hosts(struct call *call, const struct sr_get_live_hosts_args *args,
                             const struct ref_set **result, struct api_err *err)
{
    const struct sr_row *sr = find_sr(call, args->sr, err);
    if (!sr)
        return -1;
    AUTO_REF_SET const struct ref_set *hosts = NULL;
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && storage_host_is_live(call->snapshot, pbd->host))
            ref_set_assign(&hosts, ref_set_with(hosts, pbd->host));
    }
    *result = TAKE_PTR(hosts);
    return 0;
}
