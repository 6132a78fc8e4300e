/* GET /pool/xmldbdump: the whole database as XML, as classic pools write it: a table for each class, a row
 * for each object, its fields as attributes in the form that filters compare. What would let the reader act
 * as another is left out: sessions, references to them, API tokens, and fields that are secret. restore.c
 * reads it back. */
#include "dump.h"

#include "transfer.h"
#include <base/mem.h>
#include <base/xml.h>
#include <model/errors.h>

#define PIECE ((size_t)64 * 1024)

struct dump {
    int (*put)(void *arg, const void *data, size_t len);
    void *arg;
    struct buf out;
    bool whole, failed;
};

static bool is_told(const struct field_desc *field, bool whole)
{
    const struct type *type = field->type->item ? field->type->item : field->type;
    uint16_t hidden = whole ? FIELD_SECRET : FIELD_SECRET | FIELD_INTERNAL;
    return !(field->flags & hidden) && type->cls != CLASS_session;
}

static void flush(struct dump *d, size_t least)
{
    if (d->failed || d->out.len < least)
        return;
    d->failed = d->put(d->arg, d->out.data, d->out.len) < 0;
    buf_consume(&d->out, d->out.len);
}

static bool dump_row(const struct row *row, void *arg)
{
    struct dump *d = arg;
    AUTO_BUF struct buf text = BUF_INIT;
    buf_printf(&d->out, "<row ref=\"%s\"", REF_TEXT(row->ref));
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        if (!is_told(field, d->whole))
            continue;
        buf_consume(&text, text.len);
        cell_write_db(field->type, row_cell(row, field), &text);
        buf_printf(&d->out, " %s=\"", field->db_name);
        xml_write_attribute(&d->out, text.data ? text.data : "");
        buf_add_char(&d->out, '"');
    }
    buf_add_str(&d->out, "/>");
    flush(d, PIECE);
    return !d->failed;
}

int dump_database(const struct snapshot *snap, bool whole,
                  int (*put)(void *arg, const void *data, size_t len), void *arg)
{
    struct dump d = {.put = put, .arg = arg, .whole = whole};
    buf_printf(&d.out,
               "<?xml version=\"1.0\"?><database><manifest><pair key=\"schema_major_vsn\" value=\"%d\"/>"
               "<pair key=\"generation_count\" value=\"%llu\"/></manifest>",
               model_schema_version, (unsigned long long)snapshot_generation(snap));
    for (size_t i = 0; i < model_class_count && !d.failed; i++) {
        const struct class_desc *cls = &model_classes[i];
        if (cls->row_size == 0 || cls == CLASS_session || cls == CLASS_api_token || cls == CLASS_undo_note ||
            (!whole && cls == CLASS_secret))
            continue;
        buf_printf(&d.out, "<table name=\"%s\">", cls->name);
        snapshot_each(snap, cls, dump_row, &d);
        buf_add_str(&d.out, "</table>");
    }
    buf_add_str(&d.out, "</database>");
    flush(&d, 1);
    buf_done(&d.out);
    return d.failed ? -1 : 0;
}

static int run(struct transfer *t, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(t->server->store);
    t->object = xstrdup("");
    transfer_answer(t, "text/xml", NULL, -1);
    int rc = dump_database(snap, true, transfer_write, t);
    if (rc < 0 && !transfer_interrupted(t, err))
        fail_internal(err, "The database could not be sent.");
    return rc;
}

void door_dump(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {.label = "Dumping the database as XML",
                                              .action = ACTION_get_pool_xml_db_sync,
                                              .word = "database dump",
                                              .run = run};
    transfer_begin(server, req, &kind);
}
