/* What is the host's own, and what only it can reach. */
#include "host_rows.h"

#include "../blobs.h"
#include "../certificates.h"
#include "../server.h"
#include <base/mem.h>

void host_rows_delete(struct tx *tx, const struct host_row *host)
{
    struct ref self = host->row.ref, metrics = host->metrics, control = host->control_domain;
    AUTO_REF_SET const struct ref_set *pbds = ref_set_ref(host->PBDs);
    blobs_delete(tx, host->blobs);
    certificates_host_gone(tx, self);
    for (size_t i = 0; pbds && i < pbds->count; i++)
        tx_delete(tx, CLASS_PBD, pbds->items[i]);
    tx_delete(tx, CLASS_host, self);
    if (tx_get(tx, CLASS_host_metrics, metrics))
        tx_delete(tx, CLASS_host_metrics, metrics);
    if (tx_get(tx, CLASS_VM, control))
        tx_delete(tx, CLASS_VM, control);
}

static void delete_sr(struct tx *tx, struct ref ref)
{
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, ref));
    AUTO_REF_SET const struct ref_set *vdis = ref_set_ref(sr->VDIs);
    for (size_t i = 0; vdis && i < vdis->count; i++)
        tx_delete(tx, CLASS_VDI, vdis->items[i]);
    tx_delete(tx, CLASS_SR, ref);
}

void host_rows_delete_storage(struct tx *tx, const struct host_row *host)
{
    AUTO_REF_SET const struct ref_set *pbds = ref_set_ref(host->PBDs);
    for (size_t i = 0; pbds && i < pbds->count; i++) {
        const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, pbds->items[i]));
        const struct sr_row *sr = pbd ? sr_row(tx_get(tx, CLASS_SR, pbd->SR)) : NULL;
        if (sr && !sr->shared && sr->PBDs && sr->PBDs->count == 1)
            delete_sr(tx, sr->row.ref);
    }
}
