/* Look-ups in the message table. The hash table beside it is written by the generator
 * (openapi/gen/methods.py, which computes the same FNV-1a). */
#include <model/method.h>
#include <string.h>

extern const uint32_t model_method_hash_size;
extern const uint16_t model_method_hash[];

static bool name_matches(const char *name, const char *text, size_t len)
{
    /* "VM.start" is also called "VM_start"; no class name holds a dot. */
    for (size_t i = 0; i < len; i++)
        if (name[i] != text[i] && !(name[i] == '.' && text[i] == '_'))
            return false;
    return name[len] == '\0';
}

const struct method_desc *method_find(const char *name, size_t len)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    uint32_t mask = model_method_hash_size - 1;
    for (uint32_t at = hash & mask; model_method_hash[at] != UINT16_MAX; at = (at + 1) & mask) {
        const struct method_desc *method = &model_methods[model_method_hash[at]];
        if (strnlen(method->name, len + 1) == len && name_matches(method->name, name, len))
            return method;
    }
    return NULL;
}

const char *role_name(enum role role)
{
    static const char *const names[] = {
        [ROLE_READ_ONLY] = "read-only",         [ROLE_VM_OPERATOR] = "vm-operator",
        [ROLE_VM_ADMIN] = "vm-admin",           [ROLE_VM_POWER_ADMIN] = "vm-power-admin",
        [ROLE_POOL_OPERATOR] = "pool-operator", [ROLE_POOL_ADMIN] = "pool-admin",
        [ROLE_INTERNAL] = "internal",
    };
    return names[role];
}

int role_find(const char *name)
{
    for (enum role role = ROLE_READ_ONLY; role < ROLE_INTERNAL; role++)
        if (strcmp(role_name(role), name) == 0)
            return (int)role;
    return -1;
}
