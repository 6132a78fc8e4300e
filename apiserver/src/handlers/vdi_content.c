/* VDI.checksum: what a disk holds. */
#include "../hosts/hosts.h"
#include "storage.h"
#include <base/mem.h>
#include <handlers.h>
#include <jansson.h>
#include <model/errors.h>
#include <openssl/evp.h>
#include <stdio.h>

struct digest {
    EVP_MD_CTX *md;
    const _Atomic bool *cancel;
};

static void digest_done(struct digest *d)
{
    EVP_MD_CTX_free(d->md);
}

static int take(void *ctx, const void *data, size_t len)
{
    struct digest *d = ctx;
    if (d->cancel && *d->cancel)
        return -1;
    return EVP_DigestUpdate(d->md, data, len) == 1 ? 0 : -1;
}

static int begin(void *ctx, int64_t size)
{
    (void)ctx, (void)size;
    return 0;
}

int handle_vdi_checksum(struct call *call, const struct vdi_checksum_args *args, const char **result,
                        struct api_err *err)
{
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    CLEANUP(digest_done) struct digest d = {.md = EVP_MD_CTX_new(), .cancel = call->cancel};
    struct hv_disk_export_args wanted;
    struct hosts_op op;
    struct hv_err cause;
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, args->self));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(call->snapshot, CLASS_SR, vdi->SR)) : NULL;
    if (!sr)
        return vdi ? fail_handle(err, CLASS_SR, vdi->SR) : fail_handle(err, CLASS_VDI, args->self);
    if (!d.md || EVP_DigestInit_ex(d.md, EVP_md5(), NULL) != 1)
        return fail_internal(err, "MD5 is not to be had.");
    if (storage_agent_get(call->server, call->snapshot, vdi->SR, REF_NULL, &at, err) < 0)
        return -1;
    const char *disk, *iso;
    storage_disk_name(sr, vdi, &disk, &iso);
    hosts_op_init(&op, call, 0);
    hv_disk_export_args_init(&wanted);
    str_assign(&wanted.sr, sr->uuid);
    str_assign(&wanted.disk, disk);
    str_assign(&wanted.iso, iso);
    wanted.format = IMAGE_FORMAT_RAW;
    int rc = hv_disk_export(at.agent, &op.op, &wanted, begin, take, &d, &cause);
    hv_disk_export_args_done(&wanted);
    if (rc < 0)
        return storage_fail(err, at.host, vdi->SR, args->self, "copy", &cause);
    if (EVP_DigestFinal_ex(d.md, sum, &len) != 1)
        return fail_internal(err, "MD5 failed.");
    for (unsigned i = 0; i < len; i++)
        snprintf(text + (size_t)2 * i, 3, "%02x", sum[i]);
    *result = str_new(text);
    return 0;
}
