/* VDI.*: what no kind of SR of this pool can do. The gate asks the rules (SM.features) before these are
 * called, so they say the same should a rule ever let one through. */
#include "../server.h"
#include <handlers.h>
#include <model/errors.h>

static int not_supported(struct call *call, struct ref ref, struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, ref));
    return vdi ? err_sr_operation_not_supported(err, REF_TEXT(vdi->SR)) : fail_handle(err, CLASS_VDI, ref);
}

int handle_vdi_set_on_boot(struct call *call, const struct vdi_set_on_boot_args *args, struct api_err *err)
{
    return not_supported(call, args->self, err);
}

int handle_vdi_resize_online(struct call *call, const struct vdi_resize_online_args *args,
                             struct api_err *err)
{
    return not_supported(call, args->vdi, err);
}
