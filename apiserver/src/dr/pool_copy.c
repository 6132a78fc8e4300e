#include "pool_copy.h"

#include <base/json.h>
#include <base/mem.h>
#include <model/rows.h>
#include <stdio.h>

#define FORMAT 1

/* ---- which rows and fields ---- */

static bool is_copied(const struct class_desc *cls)
{
    static const struct class_desc *const left_out[] = {
        CLASS_session,
        CLASS_task,
        CLASS_role,
        CLASS_subject,
        CLASS_user,
        CLASS_secret,
        CLASS_blob,
        CLASS_Certificate,
        CLASS_message,
        CLASS_console,
        /* What is measured: of no use later, and it changes all the time. */
        CLASS_host_metrics,
        CLASS_PIF_metrics,
        CLASS_VBD_metrics,
        CLASS_VIF_metrics,
        CLASS_VM_guest_metrics,
    };
    if (!(cls->flags & CLASS_PERSIST) || cls->row_size == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(left_out); i++)
        if (cls == left_out[i])
            return false;
    return true;
}

static bool is_field_copied(const struct field_desc *field)
{
    /* Writing a copy changes these. */
    if (strcmp(field->name, "physical_utilisation") == 0 || strcmp(field->name, "metadata_latest") == 0)
        return false;
    return field->flags & FIELD_PERSIST && !(field->flags & (FIELD_DERIVED | FIELD_SECRET | FIELD_INTERNAL));
}

/* ---- writing ---- */

static bool add_row(const struct row *row, void *arg)
{
    struct buf *out = arg;
    if (row->cls == CLASS_VM && vm_row(row)->is_default_template)
        return true;
    buf_printf(out, "{\"class\":\"%s\",\"ref\":\"%s\",\"fields\":{", row->cls->name, REF_TEXT(row->ref));
    bool first = true;
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        if (!is_field_copied(field))
            continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", field->name);
        cell_write_json(field->type, row_cell(row, field), out);
        first = false;
    }
    buf_add_str(out, "}}\n");
    return out->len <= POOL_COPY_HEAD + POOL_COPY_MAX;
}

bool pool_copy_write(const struct snapshot *snap, const char *pool_uuid, int64_t now, struct buf *out)
{
    char sha256[SHA256_TEXT_SIZE];
    size_t begin = out->len;
    memset(buf_reserve(out, POOL_COPY_HEAD), ' ', POOL_COPY_HEAD);
    buf_advance(out, POOL_COPY_HEAD);
    for (size_t i = 0; i < model_class_count; i++)
        if (is_copied(&model_classes[i]))
            snapshot_each(snap, &model_classes[i], add_row, out);
    size_t size = out->len - begin - POOL_COPY_HEAD;
    if (size > POOL_COPY_MAX) {
        buf_done(out);
        return false;
    }
    sha256_text(out->data + begin + POOL_COPY_HEAD, size, sha256);
    AUTO_FREE char *head =
        xasprintf("{\"corral_pool_copy\":%d,\"pool\":\"%s\",\"written\":%lld,\"size\":%zu,\"sha256\":\"%s\"}",
                  FORMAT, pool_uuid, (long long)now, size, sha256);
    memcpy(out->data + begin, head, strlen(head));
    out->data[begin + POOL_COPY_HEAD - 1] = '\n';
    return true;
}

/* ---- reading ---- */

bool pool_copy_read_head(const char *data, struct pool_copy_head *out)
{
    static const char begin[] = "{\"corral_pool_copy\":";
    struct json_error bad;
    const char *pool, *sha256;
    int64_t format, written, size;
    struct ref ignored;
    if (memcmp(data, begin, sizeof(begin) - 1) != 0)
        return false;
    AUTO_JSON json_t *json = json_parse(data, POOL_COPY_HEAD, &bad);
    if (!json_get_int(json, "corral_pool_copy", &format) || format != FORMAT ||
        !json_get_string(json, "pool", &pool) || !uuid_parse(pool, &ignored) ||
        !json_get_int(json, "written", &written) || !json_get_int(json, "size", &size) || size < 0 ||
        size > (int64_t)POOL_COPY_MAX || !json_get_string(json, "sha256", &sha256) ||
        strlen(sha256) != SHA256_TEXT_SIZE - 1)
        return false;
    snprintf(out->pool, sizeof(out->pool), "%s", pool);
    snprintf(out->sha256, sizeof(out->sha256), "%s", sha256);
    out->written = written;
    out->size = (size_t)size;
    return true;
}

static int fail(char error[static POOL_COPY_ERROR], const char *what, const char *name)
{
    snprintf(error, POOL_COPY_ERROR, "%s%s%.60s", what, *name ? ": " : "", name);
    return -1;
}

static int fill(struct row *row, const json_t *fields, char error[static POOL_COPY_ERROR])
{
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        const json_t *value = json_object_get(fields, field->name);
        char complaint[CELL_ERROR_SIZE];
        union cell cell;
        if (!is_field_copied(field) || !value)
            continue; /* of another version */
        if (!cell_read_json(field->type, value, &cell, complaint))
            return fail(error, "a field is not of its type", field->name);
        cell_done(field->type, row_cell_mut(row, field));
        cell_copy(field->type, row_cell_mut(row, field), &cell);
        cell_done(field->type, &cell);
    }
    return 0;
}

static int load_row(struct tx *tx, const char *line, size_t len, char error[static POOL_COPY_ERROR])
{
    struct json_error bad;
    const char *name, *text, *uuid = "";
    struct ref ref, ignored;
    AUTO_JSON json_t *json = json_parse(line, len, &bad);
    const json_t *fields = json_object_get(json, "fields");
    if (!json_get_string(json, "class", &name) || !json_get_string(json, "ref", &text) ||
        !ref_parse(text, &ref) || ref_is_null(ref) || !json_is_object(fields))
        return fail(error, "a row cannot be read", "");
    const struct class_desc *cls = class_find(name);
    if (!cls || !is_copied(cls))
        return 0; /* of another version */
    if (tx_get(tx, cls, ref))
        return fail(error, "there are two rows of one reference", name);
    json_get_string(fields, "uuid", &uuid);
    if (cls->uuid && (!uuid_parse(uuid, &ignored) || tx_by_uuid(tx, cls, uuid)))
        return fail(error, "a row has no uuid of its own", name);
    return fill(tx_create_as(tx, cls, ref), fields, error);
}

static int load_rows(struct tx *tx, const char *rows, size_t size, char error[static POOL_COPY_ERROR])
{
    const char *end = rows + size;
    while (rows < end) {
        const char *line_end = memchr(rows, '\n', (size_t)(end - rows));
        if (!line_end)
            return fail(error, "the last row is cut off", "");
        if (load_row(tx, rows, (size_t)(line_end - rows), error) < 0)
            return -1;
        rows = line_end + 1;
    }
    return 0;
}

int pool_copy_load(const struct pool_copy_head *head, const char *rows, struct store **out,
                   char error[static POOL_COPY_ERROR])
{
    char sha256[SHA256_TEXT_SIZE];
    struct store_config config = {.path = NULL};
    struct store_err cause;
    struct store *store;
    if (strcmp(sha256_text(rows, head->size, sha256), head->sha256) != 0)
        return fail(error, "the rows do not match their checksum", "");
    if (store_open(&store, &config, &cause) < 0)
        return fail(error, "no database in memory could be opened", "");
    struct tx *tx = store_begin(store);
    int rc = load_rows(tx, rows, head->size, error);
    if (rc < 0)
        tx_abort(tx);
    else if (tx_commit(tx, NULL, &cause) < 0)
        rc = fail(error, "the rows cannot be put together", "");
    if (rc < 0)
        store_close(store);
    else
        *out = store;
    return rc;
}
