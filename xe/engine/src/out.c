/* Printing: items, messages and blocks, with the rules of --minimal (one line in all, members joined
 * by commas, messages dropped), of --json (all is kept until the end) and of --csv (RFC 4180). */
#include "run.h"
#include <stdarg.h>
#include <stdio.h>

void xe_out_flush(struct xe_run_state *x)
{
    size_t done = 0;
    for (size_t i = 0; i <= x->span_count; i++) {
        size_t end = i < x->span_count ? x->spans[i].at : x->out.len;
        if (end > done)
            x->api->print(x->api->ctx, x->out.data + done, end - done);
        if (i < x->span_count)
            x->api->style(x->api->ctx, false, x->spans[i].style);
        done = end;
    }
    x->span_count = 0;
    buf_clear(&x->out);
}

void xe_out_style(struct xe_run_state *x, enum xe_style style)
{
    if (!x->api->style)
        return;
    x->spans = xreallocarray(x->spans, x->span_count + 1, sizeof *x->spans);
    x->spans[x->span_count++] = (struct xe_span){x->out.len, style};
}

void xe_out_json(struct xe_run_state *x, json_t *value)
{
    if (!x->items)
        x->items = json_array();
    json_array_append_new(x->items, value ? value : json_null());
}

/* RFC 4180: quoted where it must be. */
static void csv_cell(struct buf *out, const char *text, bool first)
{
    if (!first)
        buf_add_char(out, ',');
    if (!text[strcspn(text, ",\"\r\n")]) {
        buf_add_str(out, text);
        return;
    }
    buf_add_char(out, '"');
    for (; *text; text++)
        buf_add_str(out, *text == '"' ? "\"\"" : (char[]){*text, '\0'});
    buf_add_char(out, '"');
}

/* A row, below a heading where the one before had other columns. */
static void csv_row(struct xe_run_state *x, const struct xe_cell *cells, size_t count)
{
    AUTO_BUF struct buf head = BUF_INIT;
    for (size_t i = 0; i < count; i++)
        csv_cell(&head, cells[i].name, i == 0);
    buf_add_char(&head, '\n');
    if (!x->csv_head || !streq(x->csv_head, head.data)) {
        buf_add_str(&x->out, head.data);
        free(x->csv_head);
        x->csv_head = buf_take(&head);
    }
    for (size_t i = 0; i < count; i++)
        csv_cell(&x->out, cells[i].value, i == 0);
    buf_add_char(&x->out, '\n');
}

static void minimal_member(struct xe_run_state *x)
{
    if (x->line_started)
        buf_add_char(&x->line, ',');
    x->line_started = true;
}

void xe_out_item(struct xe_run_state *x, const char *text)
{
    if (x->view.format == XE_FORMAT_JSON) {
        xe_out_json(x, json_string(text));
        return;
    }
    if (x->view.format == XE_FORMAT_CSV) {
        csv_cell(&x->out, text, true);
        buf_add_char(&x->out, '\n');
        return;
    }
    if (x->minimal) {
        minimal_member(x);
        buf_add_str(&x->line, text);
        return;
    }
    buf_add_str(&x->out, text);
    buf_add_char(&x->out, '\n');
}

int xe_confirm(struct xe_run_state *x)
{
    bool force = false;
    AUTO_FREE char *answer = NULL;
    if (xe_arg_bool(x, "force", &force) < 0)
        return -1;
    if (force)
        return 0;
    xe_out_flush(x);
    if (!x->api->prompt)
        return xe_fail(x, XE_ERR_CLI, "say force=true; there is no one to ask");
    if (x->api->prompt(x->api->ctx, "Type 'yes' to continue\n", &answer, &x->err) < 0)
        return -1;
    return streq(answer, "yes") ? 0 : xe_fail(x, XE_ERR_CLI, "aborted: nothing was changed");
}

int xe_print_uuid(struct xe_run_state *x, const char *api_class, const char *ref)
{
    const char *uuid;
    if (!ref)
        return xe_fail(x, XE_ERR_TRANSPORT, "The server answered without a reference.");
    if (xe_uuid_of(x, api_class, ref, &uuid) < 0)
        return -1;
    xe_out_item(x, uuid);
    return 0;
}

__attribute__((format(printf, 2, 0))) static void add_formatted(struct buf *out, const char *format,
                                                                va_list args)
{
    char *text;
    if (vasprintf(&text, format, args) < 0)
        abort();
    buf_add_str(out, text);
    buf_add_char(out, '\n');
    free(text);
}

void xe_out_message(struct xe_run_state *x, const char *format, ...)
{
    if (x->minimal || x->view.format != XE_FORMAT_TEXT)
        return;
    va_list args;
    va_start(args, format);
    add_formatted(&x->out, format, args);
    va_end(args);
}

void xe_note(struct xe_run_state *x, const char *format, ...)
{
    AUTO_BUF struct buf b = BUF_INIT;
    va_list args;
    va_start(args, format);
    add_formatted(&b, format, args);
    va_end(args);
    x->api->print_error(x->api->ctx, b.data, b.len);
}

/* A state that is worth a colour. */
static enum xe_style style_of(const struct xe_cell *cell)
{
    static const struct {
        const char *value;
        enum xe_style style;
    } states[] = {{"running", XE_STYLE_GOOD},  {"success", XE_STYLE_GOOD},     {"halted", XE_STYLE_FAINT},
                  {"paused", XE_STYLE_STRONG}, {"suspended", XE_STYLE_STRONG}, {"pending", XE_STYLE_STRONG},
                  {"failure", XE_STYLE_BAD},   {"cancelled", XE_STYLE_FAINT}};
    if (!streq(cell->name, "power-state") && !streq(cell->name, "status"))
        return XE_STYLE_PLAIN;
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (streq(states[i].value, cell->value))
            return states[i].style;
    return XE_STYLE_PLAIN;
}

static void block_as_json(struct xe_run_state *x, const struct xe_cell *cells, size_t count)
{
    json_t *o = json_object();
    for (size_t i = 0; i < count; i++)
        json_object_set_new(o, cells[i].name, json_string(cells[i].value));
    xe_out_json(x, o);
}

void xe_out_block(struct xe_run_state *x, const struct xe_cell *cells, size_t count)
{
    if (x->view.format == XE_FORMAT_JSON) {
        block_as_json(x, cells, count);
        return;
    }
    if (x->view.format == XE_FORMAT_CSV) {
        csv_row(x, cells, count);
        return;
    }
    if (x->minimal) {
        minimal_member(x);
        for (const char *s = count ? cells[0].value : ""; *s; s++) {
            if (*s == ',' || *s == '\\')
                buf_add_char(&x->line, '\\');
            buf_add_char(&x->line, *s);
        }
        return;
    }
    size_t width = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(cells[i].name) + strlen(cells[i].tag);
        width = n > width ? n : width;
    }
    width += 4;
    for (size_t i = 0; i < count; i++) {
        int pad = (int)(width - strlen(cells[i].name) - strlen(cells[i].tag));
        if (i == 0)
            buf_printf(&x->out, "%s%s%*s: ", cells[i].name, cells[i].tag, pad, "");
        else
            buf_printf(&x->out, "%*s%s%s: ", pad, "", cells[i].name, cells[i].tag);
        enum xe_style style = style_of(&cells[i]);
        if (style != XE_STYLE_PLAIN)
            xe_out_style(x, style);
        buf_add_str(&x->out, cells[i].value);
        if (style != XE_STYLE_PLAIN)
            xe_out_style(x, XE_STYLE_PLAIN);
        buf_add_char(&x->out, '\n');
    }
    buf_add_str(&x->out, "\n\n");
}

void xe_out_pairs(struct xe_run_state *x, const json_t *record)
{
    size_t n = json_object_size(record), i = 0;
    struct xe_cell *cells = xcalloc(n + 1, sizeof *cells);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)record, key, value) cells[i++] = (struct xe_cell){
        key, "",
        json_is_string(value) ? xstrdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY)};
    xe_out_block(x, cells, n);
    for (i = 0; i < n; i++)
        free((char *)cells[i].value);
    free(cells);
}
