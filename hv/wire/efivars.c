/* Variables of a UEFI firmware (hv/efivars.h). Layouts: edk2's MdeModulePkg/Include/Guid/VariableFormat.h and
 * the PI specification's firmware volume header; numbers are little-endian throughout. */
#include <base/bytes.h>
#include <base/mem.h>
#include <base/secret.h>
#include <hv/efivars.h>
#include <string.h>

/* ---- bytes ---- */

struct reader {
    const uint8_t *at, *end;
};

static bool take(struct reader *r, void *out, size_t len)
{
    if ((size_t)(r->end - r->at) < len)
        return false;
    memcpy(out, r->at, len);
    r->at += len;
    return true;
}

static bool take_u32(struct reader *r, uint32_t *out)
{
    bool ok = take(r, out, sizeof(*out));
    if (ok)
        *out = le32toh(*out);
    return ok;
}

static bool take_u64(struct reader *r, uint64_t *out)
{
    bool ok = take(r, out, sizeof(*out));
    if (ok)
        *out = le64toh(*out);
    return ok;
}

static void add_u32(struct buf *out, uint32_t n)
{
    n = htole32(n);
    buf_add(out, &n, sizeof(n));
}

static void add_u64(struct buf *out, uint64_t n)
{
    n = htole64(n);
    buf_add(out, &n, sizeof(n));
}

static uint8_t *copy_bytes(const void *from, size_t len)
{
    uint8_t *bytes = xmalloc(len + 1);
    memcpy(bytes, from, len);
    return bytes;
}

/* ---- variables ---- */

static void var_done(struct efi_var *var)
{
    free(var->name);
    free(var->data);
}

void efi_vars_done(struct efi_vars *vars)
{
    for (size_t i = 0; i < vars->count; i++)
        var_done(&vars->items[i]);
    free(vars->items);
    *vars = EFI_VARS_INIT;
}

static struct efi_var *add_var(struct efi_vars *vars)
{
    vars->items = xreallocarray(vars->items, vars->count + 1, sizeof(*vars->items));
    vars->items[vars->count] = (struct efi_var){0};
    return &vars->items[vars->count++];
}

static const uint8_t vendors[][EFI_GUID_SIZE] = {
    [EFI_VENDOR_GLOBAL] = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03,
                           0x2b, 0x8c},
    [EFI_VENDOR_IMAGE_SECURITY] = {0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0,
                                   0x0e, 0x67, 0x65, 0x6f},
    [EFI_VENDOR_SECURE_BOOT_ENABLE] = {0xc7, 0x0b, 0xa3, 0xf0, 0x08, 0xaf, 0x56, 0x45, 0x99, 0xc4, 0x00, 0x10,
                                       0x09, 0xc9, 0x3a, 0x44},
};

const struct efi_key efi_keys[EFI_KEY_COUNT] = {{EFI_VENDOR_GLOBAL, "PK"},
                                                {EFI_VENDOR_GLOBAL, "KEK"},
                                                {EFI_VENDOR_IMAGE_SECURITY, "db"},
                                                {EFI_VENDOR_IMAGE_SECURITY, "dbx"}};

static bool is_called(const struct efi_var *var, enum efi_vendor vendor, const char *name)
{
    size_t len = strlen(name);
    if (var->name_len != 2 * len || memcmp(var->guid, vendors[vendor], EFI_GUID_SIZE) != 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (var->name[2 * i] != (uint8_t)name[i] || var->name[2 * i + 1] != 0)
            return false;
    return true;
}

const struct efi_var *efi_vars_find(const struct efi_vars *vars, enum efi_vendor vendor, const char *name)
{
    for (size_t i = 0; i < vars->count; i++)
        if (is_called(&vars->items[i], vendor, name))
            return &vars->items[i];
    return NULL;
}

bool efi_vars_remove(struct efi_vars *vars, enum efi_vendor vendor, const char *name)
{
    const struct efi_var *var = efi_vars_find(vars, vendor, name);
    if (!var)
        return false;
    size_t i = (size_t)(var - vars->items);
    var_done(&vars->items[i]);
    memmove(&vars->items[i], &vars->items[i + 1], (vars->count - i - 1) * sizeof(*vars->items));
    vars->count--;
    return true;
}

void efi_vars_put(struct efi_vars *vars, enum efi_vendor vendor, const char *name, uint32_t attributes,
                  const uint8_t time[EFI_TIME_SIZE], const void *data, size_t len)
{
    efi_vars_remove(vars, vendor, name);
    struct efi_var *var = add_var(vars);
    memcpy(var->guid, vendors[vendor], EFI_GUID_SIZE);
    var->name_len = 2 * strlen(name);
    var->name = xcalloc(var->name_len + 1, 1);
    for (size_t i = 0; name[i]; i++)
        var->name[2 * i] = (uint8_t)name[i];
    var->attributes = attributes;
    memcpy(var->time, time, EFI_TIME_SIZE);
    var->data = copy_bytes(data, len);
    var->data_len = len;
}

void efi_vars_set_keys(struct efi_vars *vars, const struct efi_vars *from)
{
    for (size_t i = 0; i < EFI_KEY_COUNT; i++) {
        efi_vars_remove(vars, efi_keys[i].vendor, efi_keys[i].name);
        const struct efi_var *key = from ? efi_vars_find(from, efi_keys[i].vendor, efi_keys[i].name) : NULL;
        if (key)
            efi_vars_put(vars, efi_keys[i].vendor, efi_keys[i].name, key->attributes, key->time, key->data,
                         key->data_len);
    }
}

/* ---- updates (UEFI 2.10: 8.2.6, 32.4.1) ---- */

#define KEY_ATTRIBUTES 0x27u              /* kept, for boot and run time, changed by signed updates alone */
#define CERTIFICATE_HEAD 24u              /* WIN_CERTIFICATE_UEFI_GUID: length, revision, type, GUID */
#define CERTIFICATE_UEFI_GUID 0x0ef10200u /* type and revision */
#define SIGNATURE_LIST_HEAD 28u

/* One EFI_SIGNATURE_LIST; false: it is none. */
static bool take_signature_list(struct reader *r)
{
    uint8_t type[EFI_GUID_SIZE];
    uint32_t list_len, head_len, signature_len;
    size_t all = (size_t)(r->end - r->at);
    if (!take(r, type, sizeof(type)) || !take_u32(r, &list_len) || !take_u32(r, &head_len) ||
        !take_u32(r, &signature_len) || list_len > all || list_len < SIGNATURE_LIST_HEAD ||
        head_len > list_len - SIGNATURE_LIST_HEAD || signature_len <= EFI_GUID_SIZE)
        return false;
    uint32_t signatures_len = list_len - SIGNATURE_LIST_HEAD - head_len;
    r->at += list_len - SIGNATURE_LIST_HEAD;
    return signatures_len > 0 && signatures_len % signature_len == 0;
}

int efi_vars_put_update(struct efi_vars *vars, size_t key, const void *update, size_t len)
{
    struct reader r = {update, (const uint8_t *)update + len};
    uint8_t time[EFI_TIME_SIZE];
    uint32_t certificate_len, kind;
    if (!take(&r, time, sizeof(time)) || !take_u32(&r, &certificate_len) || !take_u32(&r, &kind) ||
        kind != CERTIFICATE_UEFI_GUID || certificate_len < CERTIFICATE_HEAD ||
        certificate_len - 2 * sizeof(uint32_t) > (size_t)(r.end - r.at))
        return -1;
    r.at += certificate_len - 2 * sizeof(uint32_t);
    const uint8_t *lists = r.at;
    size_t lists_len = (size_t)(r.end - r.at);
    if (lists_len == 0 || lists_len > EFI_VARS_MAX)
        return -1;
    while (r.at < r.end)
        if (!take_signature_list(&r))
            return -1;
    efi_vars_put(vars, efi_keys[key].vendor, efi_keys[key].name, KEY_ATTRIBUTES, time, lists, lists_len);
    return 0;
}

/* ---- the list ---- */

static const char list_magic[4] = {'V', 'A', 'R', 'S'};
#define LIST_VERSION 1
#define LIST_VERSION_MAX 2 /* the same layout */

static bool take_bytes(struct reader *r, uint8_t **out, size_t *out_len)
{
    uint64_t len;
    if (!take_u64(r, &len) || len > (uint64_t)(r->end - r->at))
        return false;
    *out = copy_bytes(r->at, (size_t)len);
    *out_len = (size_t)len;
    r->at += len;
    return true;
}

static bool take_var(struct reader *r, struct efi_var *var)
{
    if (!take_bytes(r, &var->name, &var->name_len) || !take_bytes(r, &var->data, &var->data_len) ||
        !take(r, var->guid, EFI_GUID_SIZE) || !take_u32(r, &var->attributes) ||
        !take(r, var->time, EFI_TIME_SIZE) || !take(r, var->cert, EFI_CERT_SIZE) || var->name_len % 2 != 0)
        return false;
    /* Some writers count the terminator. */
    if (var->name_len > 2 && var->name[var->name_len - 1] == 0 && var->name[var->name_len - 2] == 0)
        var->name_len -= 2;
    return var->name_len > 0;
}

int efi_vars_read(const void *list, size_t len, struct efi_vars *out)
{
    struct reader r = {list, (const uint8_t *)list + len};
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    char magic[sizeof(list_magic)];
    uint32_t version;
    uint64_t count, data_len;
    if (len > EFI_VARS_MAX || !take(&r, magic, sizeof(magic)) ||
        memcmp(magic, list_magic, sizeof(magic)) != 0 || !take_u32(&r, &version) || version < LIST_VERSION ||
        version > LIST_VERSION_MAX || !take_u64(&r, &count) || !take_u64(&r, &data_len))
        return -1;
    for (uint64_t i = 0; i < count; i++)
        if (!take_var(&r, add_var(&vars)))
            return -1;
    *out = vars;
    vars = EFI_VARS_INIT;
    return 0;
}

int efi_vars_read_text(const char *base64, struct efi_vars *out)
{
    size_t len, text_len = strlen(base64);
    if (text_len > EFI_VARS_TEXT_MAX)
        return -1;
    char *list AUTO_FREE = base64_decode(base64, text_len, &len);
    return list ? efi_vars_read(list, len, out) : -1;
}

static void add_bytes(struct buf *out, const uint8_t *bytes, size_t len)
{
    add_u64(out, len);
    buf_add(out, bytes, len);
}

void efi_vars_write(const struct efi_vars *vars, struct buf *out)
{
    struct buf body AUTO_BUF = BUF_INIT;
    for (size_t i = 0; i < vars->count; i++) {
        const struct efi_var *var = &vars->items[i];
        add_bytes(&body, var->name, var->name_len);
        add_bytes(&body, var->data, var->data_len);
        buf_add(&body, var->guid, EFI_GUID_SIZE);
        add_u32(&body, var->attributes);
        buf_add(&body, var->time, EFI_TIME_SIZE);
        buf_add(&body, var->cert, EFI_CERT_SIZE);
    }
    buf_add(out, list_magic, sizeof(list_magic));
    add_u32(out, LIST_VERSION);
    add_u64(out, vars->count);
    add_u64(out, body.len);
    if (body.len)
        buf_add(out, body.data, body.len);
}

char *efi_vars_write_text(const struct efi_vars *vars)
{
    struct buf list AUTO_BUF = BUF_INIT;
    efi_vars_write(vars, &list);
    return base64_encode(list.data, list.len);
}

/* ---- the flash image ---- */

#define VOLUME_SIGNATURE 40  /* offset of "_FVH" */
#define VOLUME_HEADER_LEN 48 /* offset of the header's length, 16 bits */
#define VOLUME_HEADER_MIN 56
#define STORE_HEADER 28 /* guid, size, format, state, reserved */
#define STORE_FORMATTED 0x5a
#define STORE_HEALTHY 0xfe
#define VAR_START 0x55aa
#define VAR_HEADER 60
#define VAR_ADDED 0x3f
#define VAR_IN_DELETED_TRANSITION 0x3e /* added, and about to be replaced */
#define VAR_NON_VOLATILE 1

static const uint8_t store_guid[EFI_GUID_SIZE] = {0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43,
                                                  0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92};

/* The part of a flash image that variables are in: from behind the store's header to its end. */
static bool find_store(const uint8_t *flash, size_t len, size_t *from, size_t *to)
{
    if (len < VOLUME_HEADER_MIN || len > EFI_FLASH_MAX || memcmp(flash + VOLUME_SIGNATURE, "_FVH", 4) != 0)
        return false;
    size_t header = flash[VOLUME_HEADER_LEN] | (size_t)flash[VOLUME_HEADER_LEN + 1] << 8;
    if (header < VOLUME_HEADER_MIN || header + STORE_HEADER > len)
        return false;
    const uint8_t *store = flash + header;
    uint32_t size = le32_get(store + EFI_GUID_SIZE);
    if (memcmp(store, store_guid, EFI_GUID_SIZE) != 0 || size < STORE_HEADER || size > len - header ||
        store[EFI_GUID_SIZE + 4] != STORE_FORMATTED || store[EFI_GUID_SIZE + 5] != STORE_HEALTHY)
        return false;
    *from = header + STORE_HEADER;
    *to = header + size;
    return true;
}

static size_t aligned(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

static void read_var(struct efi_vars *vars, const uint8_t *at, size_t name_len, size_t data_len)
{
    struct efi_var *var = add_var(vars);
    var->attributes = le32_get(at + 4);
    memcpy(var->time, at + 16, EFI_TIME_SIZE);
    memcpy(var->guid, at + 44, EFI_GUID_SIZE);
    var->name_len = name_len - 2;
    var->name = copy_bytes(at + VAR_HEADER, name_len);
    var->data_len = data_len;
    var->data = copy_bytes(at + VAR_HEADER + name_len, data_len);
}

int efi_flash_read(const void *flash, size_t len, struct efi_vars *out)
{
    const uint8_t *bytes = flash;
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    size_t at, end;
    if (!find_store(bytes, len, &at, &end))
        return -1;
    while (end - at >= VAR_HEADER && (bytes[at] | bytes[at + 1] << 8) == VAR_START) {
        size_t name_len = le32_get(bytes + at + 36), data_len = le32_get(bytes + at + 40);
        uint8_t state = bytes[at + 2];
        if (name_len > end - at - VAR_HEADER || data_len > end - at - VAR_HEADER - name_len)
            break; /* the firmware wrote its header and was ended */
        bool valid = state == VAR_ADDED || state == VAR_IN_DELETED_TRANSITION;
        if (valid && name_len > 2 && name_len % 2 == 0)
            read_var(&vars, bytes + at, name_len, data_len);
        at += aligned(VAR_HEADER + name_len + data_len);
        if (at > end)
            break;
    }
    *out = vars;
    vars = EFI_VARS_INIT;
    return 0;
}

void *efi_flash_make(const void *flash, size_t len, const struct efi_vars *vars)
{
    size_t at, end;
    if (!find_store(flash, len, &at, &end))
        return NULL;
    uint8_t *made = copy_bytes(flash, len);
    memset(made + at, 0xff, end - at);
    for (size_t i = 0; i < vars->count; i++) {
        const struct efi_var *var = &vars->items[i];
        size_t name_len = var->name_len + 2;
        if (!(var->attributes & VAR_NON_VOLATILE))
            continue;
        if (end - at < VAR_HEADER || name_len > end - at - VAR_HEADER ||
            var->data_len > end - at - VAR_HEADER - name_len) {
            free(made);
            return NULL;
        }
        uint8_t *p = made + at;
        memset(p, 0, VAR_HEADER + name_len);
        p[0] = VAR_START & 0xff;
        p[1] = VAR_START >> 8;
        p[2] = VAR_ADDED;
        le32_put(p + 4, var->attributes);
        memcpy(p + 16, var->time, EFI_TIME_SIZE);
        le32_put(p + 36, (uint32_t)name_len);
        le32_put(p + 40, (uint32_t)var->data_len);
        memcpy(p + 44, var->guid, EFI_GUID_SIZE);
        memcpy(p + VAR_HEADER, var->name, var->name_len);
        memcpy(p + VAR_HEADER + name_len, var->data, var->data_len);
        at += aligned(VAR_HEADER + name_len + var->data_len);
        if (at > end)
            at = end;
    }
    return made;
}
