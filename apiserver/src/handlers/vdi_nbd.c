/* VDI.get_nbd_info: where a disk can be read over NBD. The server itself answers there, at the addresses that
 * its host has in networks with such a purpose. */
#include "../front.h"
#include "../gate/session.h"
#include "../nbd/nbd.h"
#include "storage.h"
#include <base/file.h>
#include <base/mem.h>
#include <base/pki.h>
#include <errno.h>
#include <handlers.h>
#include <jansson.h>
#include <model/errors.h>

#define PEM_MAX (256 * 1024)

struct places {
    struct call *call;
    struct ref host; /* the server's */
    const char *own; /* the only address that the server listens at; NULL: all */
    char *name;      /* of the export */
    char *certificate, *subject;
    json_t *list;
};

static void places_done(struct places *p)
{
    free(p->name);
    free(p->certificate);
    free(p->subject);
}

static void add_place(struct places *p, const char *address, size_t len)
{
    if (len == 0)
        return;
    json_array_append_new(p->list, json_pack("{s:s, s:s%, s:i, s:s, s:s}", "exportname", p->name, "address",
                                             address, len, "port", nbd_port(p->call->server->nbd), "cert",
                                             p->certificate, "subject", p->subject));
}

static bool visit_pif(const struct row *row, void *arg)
{
    struct places *p = arg;
    const struct pif_row *pif = pif_row(row);
    const struct network_row *network =
        network_row(snapshot_get(p->call->snapshot, CLASS_network, pif->network));
    const uint64_t purposes = 1ULL << NETWORK_PURPOSE_NBD | 1ULL << NETWORK_PURPOSE_INSECURE_NBD;
    if (!ref_eq(pif->host, p->host) || !pif->currently_attached || !network || !(network->purpose & purposes))
        return true;
    if (p->own) {
        add_place(p, p->own, strlen(p->own));
        return false;
    }
    add_place(p, pif->IP, strlen(pif->IP));
    for (size_t i = 0; pif->IPv6 && i < pif->IPv6->count; i++)
        add_place(p, pif->IPv6->items[i], strcspn(pif->IPv6->items[i], "/"));
    return true;
}

/* The certificate that is shown, with the pool's CA, which has signed it unless somebody brought another one.
 */
static int read_certificate(struct places *p, struct api_err *err)
{
    AUTO_FREE char *ca_file = xasprintf("%s/pki/ca.pem", p->call->server->state_dir);
    AUTO_FREE char *shown = front_certificate(p->call->server, err);
    AUTO_FREE char *ca = file_read(ca_file, PEM_MAX, NULL);
    if (!shown)
        return -1;
    if (!ca)
        return fail_internal(err, "The pool's CA certificate cannot be read: %s.", strerror(errno));
    p->subject = pki_dns_name(shown, strlen(shown));
    p->certificate = strstr(shown, ca) ? xstrdup(shown) : xasprintf("%s%s", shown, ca);
    return 0;
}

int handle_vdi_get_nbd_info(struct call *call, const struct vdi_get_nbd_info_args *args, json_t **result,
                            struct api_err *err)
{
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    AUTO_API_ERR struct api_err nobody = API_ERR_INIT;
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, args->self));
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    const char *listen = call->server->listen;
    if (!vdi)
        return fail_handle(err, CLASS_VDI, args->self);
    if (vdi->type == VDI_TYPE_CBT_METADATA)
        return err_vdi_incompatible_type(err, REF_TEXT(args->self), model_enum_vdi_type.values[vdi->type]);
    if (!call->server->nbd || nbd_policy(call->snapshot) == NBD_NOBODY ||
        storage_agent_get(call->server, call->snapshot, vdi->SR, REF_NULL, &at, &nobody) < 0) {
        *result = json_array(); /* clients take the disk by export then */
        return 0;
    }
    CLEANUP(places_done)
    struct places p = {
        .call = call,
        .host = pool->master,
        .own = streq(listen, "0.0.0.0") || streq(listen, "::") ? NULL : listen,
        .name = xasprintf("/%s?session_id=%s", vdi->uuid, REF_TEXT(call->session->token)),
    };
    if (read_certificate(&p, err) < 0)
        return -1;
    p.list = json_array();
    snapshot_each(call->snapshot, CLASS_PIF, visit_pif, &p);
    *result = p.list;
    return 0;
}
