/* The two forms differ in what stands around a value: commas and quotes, or tags. */
#include "answer.h"

#include <assert.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/xml.h>

struct answer answer_begin(enum answer_form form)
{
    return (struct answer){.form = form};
}

void answer_pieces_free(struct answer_pieces *pieces)
{
    for (size_t i = 0; pieces && i < pieces->count; i++)
        row_unref(pieces->items[i].row);
    if (pieces)
        free(pieces->items);
    free(pieces);
}

void answer_in_pieces(struct answer *a)
{
    assert(!a->pieces);
    a->pieces = xcalloc(1, sizeof(*a->pieces));
}

static void add_piece(struct answer *a, const struct row *row, size_t len)
{
    struct answer_pieces *p = a->pieces;
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        p->items = xreallocarray(p->items, p->capacity, sizeof(*p->items));
    }
    p->items[p->count].at = a->out.len;
    p->items[p->count++].row = row_ref(row);
    p->bytes += len;
}

static bool in_map(const struct answer *a)
{
    return a->depth > 0 && a->level[a->depth - 1].part == ANSWER_MAP;
}

/* Before a value: in a map its key made room already. */
static void before_value(struct answer *a)
{
    if (a->depth == 0 || in_map(a))
        return;
    if (a->form == ANSWER_JSON && a->level[a->depth - 1].more)
        buf_add_char(&a->out, ',');
    a->level[a->depth - 1].more = true;
}

void answer_open(struct answer *a, enum answer_part part)
{
    assert(a->depth < ANSWER_DEPTH_MAX);
    before_value(a);
    if (a->form == ANSWER_JSON)
        buf_add_char(&a->out, part == ANSWER_MAP ? '{' : '[');
    else
        buf_add_str(&a->out, part == ANSWER_MAP ? "<value><struct>" : "<value><array><data>");
    a->level[a->depth].part = part;
    a->level[a->depth++].more = false;
}

void answer_close(struct answer *a)
{
    assert(a->depth > 0);
    bool map = in_map(a);
    bool more = a->level[--a->depth].more;
    if (a->form == ANSWER_JSON) {
        buf_add_char(&a->out, map ? '}' : ']');
        return;
    }
    if (map && more)
        buf_add_str(&a->out, "</member>");
    buf_add_str(&a->out, map ? "</struct></value>" : "</data></array></value>");
}

void answer_key(struct answer *a, const char *name)
{
    assert(in_map(a));
    bool *more = &a->level[a->depth - 1].more;
    if (a->form == ANSWER_JSON) {
        if (*more)
            buf_add_char(&a->out, ',');
        json_write_string(&a->out, name);
        buf_add_char(&a->out, ':');
    } else {
        buf_add_str(&a->out, *more ? "</member><member><name>" : "<member><name>");
        xml_write_text(&a->out, name);
        buf_add_str(&a->out, "</name>");
    }
    *more = true;
}

void answer_text(struct answer *a, const char *text)
{
    before_value(a);
    if (a->form == ANSWER_JSON) {
        json_write_string(&a->out, text);
        return;
    }
    buf_add_str(&a->out, "<value>");
    xml_write_text(&a->out, text);
    buf_add_str(&a->out, "</value>");
}

void answer_ref(struct answer *a, struct ref ref)
{
    char text[REF_TEXT_SIZE];
    answer_text(a, ref_format(ref, text));
}

void answer_i4(struct answer *a, int64_t value)
{
    before_value(a);
    if (a->form == ANSWER_XML)
        buf_add_str(&a->out, "<value><i4>");
    buf_add_int(&a->out, value);
    if (a->form == ANSWER_XML)
        buf_add_str(&a->out, "</i4></value>");
}

void answer_cell(struct answer *a, const struct type *type, const union cell *cell)
{
    before_value(a);
    if (a->form == ANSWER_JSON)
        cell_write_json(type, cell, &a->out);
    else
        cell_write_xml(type, cell, &a->out);
}

void answer_record(struct answer *a, const struct row *row)
{
    const struct fragment *record = a->form == ANSWER_JSON ? row_json(row) : row_xml(row);
    before_value(a);
    if (a->pieces)
        add_piece(a, row, record->len);
    else
        buf_add(&a->out, record->text, record->len);
}

void answer_give(struct answer *a, struct call *call)
{
    assert(a->depth == 0 && a->form == call->form);
    call->raw_len = a->out.len;
    call->raw = buf_take(&a->out);
    call->pieces = a->pieces;
    a->pieces = NULL;
}
