/* Plans of uploads: their requests are more than a plan can keep, so they are told and not applied. */
#include "plan.h"

#include "../handlers/vdi_upload.h"
#include <base/mem.h>
#include <model/errors.h>

struct planned {
    struct ref vdi;
    const struct upload *upload;
    int64_t from;
};

static void refuse(void *arg, const struct api_err *err)
{
    plan_refused(arg, NULL, err);
}

static void fill_make(struct plan *p, void *arg)
{
    const struct planned *planned = arg;
    const struct vdi_row *vdi = vdi_row(plan_row(p, CLASS_VDI, planned->vdi));
    upload_refusals(p->server, planned->vdi, planned->upload, refuse, p);
    if (!vdi)
        return;
    plan_needs_space(p, vdi->SR, planned->upload->length);
    plan_step(p, &vdi->row,
              "Keeps %lld bytes beside the disk, as they come; nothing else uses the disk meanwhile.",
              (long long)planned->upload->length);
    plan_step(p, &vdi->row, "Checks them when all have come, and makes them the content of the disk.");
}

void upload_plan_make(struct rest *r, struct ref vdi, const struct upload *wish)
{
    struct planned planned = {.vdi = vdi, .upload = wish};
    plan_request(r, "POST upload", fill_make, &planned);
}

/* The same refusals as of the bytes themselves, which are not read. */
static void fill_write(struct plan *p, void *arg)
{
    const struct planned *planned = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct row *vdi = plan_row(p, CLASS_VDI, planned->vdi);
    int64_t length = http_request_content_length(p->rest->req), offset;
    int64_t left = planned->upload->length - planned->from;
    if (upload_offset(p->server, planned->vdi, planned->upload->id, &offset, NULL, &err) < 0) {
        plan_refused(p, vdi, &err);
        return;
    }
    if (planned->from != offset) {
        err_invalid_value(&err, "Upload-Offset", http_request_header(p->rest->req, "Upload-Offset"));
        plan_refused(p, vdi, &err);
    }
    if (length > left) {
        err_invalid_value(&err, "Content-Length", "more than is left of the upload");
        plan_refused(p, vdi, &err);
    }
    plan_step(p, vdi, "Takes bytes from %lld on; %lld are missing.", (long long)planned->from,
              (long long)(left > 0 ? left : 0));
    if (length >= left)
        plan_step(p, vdi, "Checks all of them, and makes them the content of the disk.");
}

void upload_plan_write(struct rest *r, struct ref vdi, const struct upload *upload, int64_t from)
{
    struct planned planned = {.vdi = vdi, .upload = upload, .from = from};
    plan_request(r, "PATCH upload", fill_write, &planned);
}

static void fill_drop(struct plan *p, void *arg)
{
    const struct planned *planned = arg;
    const struct row *vdi = plan_row(p, CLASS_VDI, planned->vdi);
    plan_step(p, vdi,
              planned->upload->open ? "Forgets the bytes that have come; the disk stays as it is."
                                    : "Forgets that there was an upload; the disk holds it.");
}

void upload_plan_drop(struct rest *r, struct ref vdi, const struct upload *upload)
{
    struct planned planned = {.vdi = vdi, .upload = upload};
    plan_request(r, "DELETE upload", fill_drop, &planned);
}
