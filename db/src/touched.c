/* What the open transaction has touched so far: for rules that follow from other rows. */
#include "store_impl.h"

void tx_each_touched(struct tx *tx,
                     void (*fn)(struct tx *tx, const struct class_desc *cls, struct ref ref, void *arg),
                     void *arg)
{
    uint32_t count = tx->count; /* what fn touches is not visited */
    for (uint32_t i = 0; i < count; i++) {
        /* Copied: the array may move while fn edits. */
        const struct class_desc *cls = tx->rows[i].cls;
        struct ref ref = tx->rows[i].ref;
        bool deleted = !tx->rows[i].row;
        if (!deleted)
            fn(tx, cls, ref, arg);
    }
}
