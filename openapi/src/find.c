/* Look-ups by name. Classes and fields of the model go into one hash table, made on first use; enums are
 * short and compared in place. */
#include <base/mem.h>
#include <model/model.h>
#include <pthread.h>
#include <strings.h>

/* Power of two, at least twice the number of classes and fields of the model. */
struct slot {
    const struct class_desc *cls;
    const struct field_desc *field; /* NULL: the class itself */
};
static struct slot *slots;
static size_t slot_mask;
static pthread_once_t slots_once = PTHREAD_ONCE_INIT;

static size_t slot_hash(const struct class_desc *cls, const char *name)
{
    uint64_t hash = UINT64_C(1469598103934665603) ^ (cls ? (uint64_t)cls->index + 1 : 0);
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return (size_t)(hash ^ hash >> 29);
}

static void slot_add(size_t hash, struct slot slot)
{
    size_t at = hash & slot_mask;
    while (slots[at].cls)
        at = (at + 1) & slot_mask;
    slots[at] = slot;
}

static void slots_fill(void)
{
    size_t count = model_class_count, size = 64;
    for (uint16_t i = 0; i < model_class_count; i++)
        count += model_classes[i].field_count;
    while (size < 2 * count)
        size *= 2;
    slots = xcalloc(size, sizeof(*slots)); /* kept for the life of the process */
    slot_mask = size - 1;
    for (uint16_t i = 0; i < model_class_count; i++) {
        const struct class_desc *cls = &model_classes[i];
        slot_add(slot_hash(NULL, cls->name), (struct slot){cls, NULL});
        for (uint16_t f = 0; f < cls->field_count; f++)
            slot_add(slot_hash(cls, cls->fields[f].name), (struct slot){cls, &cls->fields[f]});
    }
}

const struct class_desc *class_find(const char *name)
{
    pthread_once(&slots_once, slots_fill);
    for (size_t at = slot_hash(NULL, name) & slot_mask; slots[at].cls; at = (at + 1) & slot_mask)
        if (!slots[at].field && streq(slots[at].cls->name, name))
            return slots[at].cls;
    return NULL;
}

const struct field_desc *field_find(const struct class_desc *cls, const char *name)
{
    if (cls->index < model_class_count && cls == &model_classes[cls->index]) {
        pthread_once(&slots_once, slots_fill);
        for (size_t at = slot_hash(cls, name) & slot_mask; slots[at].cls; at = (at + 1) & slot_mask)
            if (slots[at].cls == cls && slots[at].field && streq(slots[at].field->name, name))
                return slots[at].field;
        return NULL;
    }
    for (uint16_t i = 0; i < cls->field_count; i++) /* a table of a test */
        if (streq(cls->fields[i].name, name))
            return &cls->fields[i];
    return NULL;
}

int enum_find(const struct enum_desc *en, const char *text)
{
    for (uint16_t i = 0; i < en->count; i++)
        if (((en->values[i][0] ^ text[0]) & ~0x20) == 0 && strcasecmp(en->values[i], text) == 0)
            return i;
    return -1;
}
