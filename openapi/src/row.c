/* Rows of any class: made from the descriptors, copied, counted, and freed with their fragments. */
#include <assert.h>
#include <base/buf.h>
#include <base/mem.h>
#include <model/model.h>
#include <stdatomic.h>

/* A row's header, without its fields. */
static struct row *row_alloc(const struct class_desc *cls, struct ref ref)
{
    assert(cls->row_size >= sizeof(struct row));
    struct row *row = xcalloc(1, cls->row_size);
    row->cls = cls;
    atomic_init(&row->refs, 1);
    row->ref = ref;
    return row;
}

struct row *row_new(const struct class_desc *cls, struct ref ref)
{
    struct row *row = row_alloc(cls, ref);
    for (uint16_t i = 0; i < cls->field_count; i++) {
        const struct field_desc *field = &cls->fields[i];
        /* A table may leave out the initial value of a string. */
        if (field->type->rep == REP_STRING && !field->initial.str)
            cell_init(field->type, row_cell_mut(row, field));
        else
            cell_copy(field->type, row_cell_mut(row, field), &field->initial);
    }
    return row;
}

struct row *row_copy(const struct row *row)
{
    const struct class_desc *cls = row->cls;
    struct row *copy = row_alloc(cls, row->ref);
    copy->generation = row->generation;
    copy->created = row->created;
    for (uint16_t i = 0; i < cls->field_count; i++) {
        const struct field_desc *field = &cls->fields[i];
        cell_copy(field->type, row_cell_mut(copy, field), row_cell(row, field));
    }
    return copy;
}

const struct row *row_ref(const struct row *row)
{
    if (row)
        atomic_fetch_add_explicit(&((struct row *)(uintptr_t)row)->refs, 1, memory_order_relaxed);
    return row;
}

void row_unref(const struct row *row)
{
    struct row *mine = (struct row *)(uintptr_t)row;
    if (!mine || atomic_fetch_sub_explicit(&mine->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint16_t i = 0; i < mine->cls->field_count; i++) {
        const struct field_desc *field = &mine->cls->fields[i];
        cell_done(field->type, row_cell_mut(mine, field));
    }
    free(atomic_load_explicit(&mine->json, memory_order_relaxed));
    free(atomic_load_explicit(&mine->xml, memory_order_relaxed));
    free(mine);
}

/* Makes a fragment of the text and puts it in the slot, unless another thread was first. */
static const struct fragment *fragment_publish(_Atomic(struct fragment *) *slot, const struct buf *text)
{
    struct fragment *fresh = xmalloc(sizeof(*fresh) + text->len + 1);
    fresh->len = text->len;
    memcpy(fresh->text, text->data, text->len);
    fresh->text[text->len] = '\0';
    struct fragment *there = NULL;
    if (atomic_compare_exchange_strong_explicit(slot, &there, fresh, memory_order_acq_rel,
                                                memory_order_acquire))
        return fresh;
    free(fresh);
    return there;
}

static void write_record_json(const struct row *row, struct buf *out)
{
    char before = '{';
    for (uint16_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        if (field->flags & FIELD_INTERNAL)
            continue;
        buf_add_char(out, before);
        before = ',';
        buf_add_char(out, '"'); /* names of fields need no escapes */
        buf_add_str(out, field->name);
        buf_add(out, "\":", 2);
        cell_write_json(field->type, row_cell(row, field), out);
    }
    if (before == '{')
        buf_add_char(out, '{');
    buf_add_char(out, '}');
}

static void write_record_xml(const struct row *row, struct buf *out)
{
    buf_add_str(out, "<value><struct>");
    for (uint16_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        if (field->flags & FIELD_INTERNAL)
            continue;
        buf_add_str(out, "<member><name>");
        buf_add_str(out, field->name);
        buf_add_str(out, "</name>");
        cell_write_xml(field->type, row_cell(row, field), out);
        buf_add_str(out, "</member>");
    }
    buf_add_str(out, "</struct></value>");
}

/* Fragments are a cache: making one does not change the row. */
const struct fragment *row_json(const struct row *row)
{
    _Atomic(struct fragment *) *slot = &((struct row *)(uintptr_t)row)->json;
    const struct fragment *there = atomic_load_explicit(slot, memory_order_acquire);
    if (there)
        return there;
    AUTO_BUF struct buf text = BUF_INIT;
    write_record_json(row, &text);
    return fragment_publish(slot, &text);
}

const struct fragment *row_xml(const struct row *row)
{
    _Atomic(struct fragment *) *slot = &((struct row *)(uintptr_t)row)->xml;
    const struct fragment *there = atomic_load_explicit(slot, memory_order_acquire);
    if (there)
        return there;
    AUTO_BUF struct buf text = BUF_INIT;
    write_record_xml(row, &text);
    return fragment_publish(slot, &text);
}
