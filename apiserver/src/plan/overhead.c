#include "overhead.h"

#include <base/mem.h>
#include <hv/domain.h>

#define MIB (INT64_C(1) << 20)
#define VIDEO_INCLUDED_MIB 16
#define VIDEO_MOST_MIB 256

int64_t overhead_of(const struct vm_row *vm)
{
    if (vm->is_control_domain)
        return 0;
    const char *video = str_map_get(vm->platform, "videoram");
    int64_t mib = video ? strtoll(video, NULL, 10) : 0;
    int64_t more =
        mib <= VIDEO_INCLUDED_MIB ? 0 : (mib < VIDEO_MOST_MIB ? mib : VIDEO_MOST_MIB) - VIDEO_INCLUDED_MIB;
    return domain_overhead(vm->memory_static_max, vm->VCPUs_max) + more * MIB;
}

void overhead_refresh(struct tx *tx, const struct class_desc *cls, struct ref ref, void *arg)
{
    (void)arg;
    const struct vm_row *vm = cls == CLASS_VM ? vm_row(tx_get(tx, cls, ref)) : NULL;
    if (vm && vm->memory_overhead != overhead_of(vm))
        vm_row_mut(tx_edit(tx, CLASS_VM, ref))->memory_overhead = overhead_of(vm);
}

struct wrong {
    struct ref *vms;
    size_t count;
};

static bool collect(const struct row *row, void *arg)
{
    struct wrong *wrong = arg;
    if (vm_row(row)->memory_overhead != overhead_of(vm_row(row)))
        wrong->vms[wrong->count++] = row->ref;
    return true;
}

void overhead_refresh_all(struct tx *tx)
{
    AUTO_FREE struct ref *vms = xcalloc(tx_count(tx, CLASS_VM) + 1, sizeof(*vms));
    struct wrong wrong = {.vms = vms};
    tx_each(tx, CLASS_VM, collect, &wrong);
    for (size_t i = 0; i < wrong.count; i++)
        overhead_refresh(tx, CLASS_VM, vms[i], NULL);
}
