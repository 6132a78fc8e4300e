/* VDI.checksum: what a disk holds. */
#include "../hosts/hosts.h"
#include "storage.h"
#include <base/digest.h>
#include <base/mem.h>
#include <handlers.h>
#include <jansson.h>
#include <model/errors.h>

struct content {
    struct digester *digester;
    const _Atomic bool *cancel;
};

static int take(void *ctx, const void *data, size_t len)
{
    struct content *c = ctx;
    if (c->cancel && *c->cancel)
        return -1;
    digester_add(c->digester, data, len);
    return 0;
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
    AUTO_DIGESTER struct digester *md5 = digester_new(DIGEST_MD5);
    struct content content = {.digester = md5, .cancel = call->cancel};
    struct hv_disk_export_args wanted;
    struct hosts_op op;
    struct hv_err cause;
    unsigned char sum[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, args->self));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(call->snapshot, CLASS_SR, vdi->SR)) : NULL;
    if (!sr)
        return vdi ? fail_handle(err, CLASS_SR, vdi->SR) : fail_handle(err, CLASS_VDI, args->self);
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
    int rc = hv_disk_export(at.agent, &op.op, &wanted, begin, take, &content, &cause);
    hv_disk_export_args_done(&wanted);
    if (rc < 0)
        return storage_fail(err, at.host, vdi->SR, args->self, "copy", &cause);
    if (!digester_end(md5, sum))
        return fail_internal(err, "OpenSSL's configuration forbids MD5.");
    *result = str_new(digest_text(DIGEST_MD5, sum, text));
    return 0;
}
