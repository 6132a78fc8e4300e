/* Printing: items, messages and blocks, with the rules of --minimal (one line in all, members joined
 * by commas, messages dropped). */
#include "run.h"
#include <stdarg.h>
#include <stdio.h>

void xe_out_flush(struct xe_run_state *x)
{
    if (x->out.len)
        x->api->print(x->api->ctx, x->out.data, x->out.len);
    buf_clear(&x->out);
}

static void minimal_member(struct xe_run_state *x)
{
    if (x->line_started)
        buf_add_char(&x->line, ',');
    x->line_started = true;
}

void xe_out_item(struct xe_run_state *x, const char *text)
{
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
    if (x->minimal)
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

void xe_out_block(struct xe_run_state *x, const struct xe_cell *cells, size_t count)
{
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
            buf_printf(&x->out, "%s%s%*s: %s\n", cells[i].name, cells[i].tag, pad, "", cells[i].value);
        else
            buf_printf(&x->out, "%*s%s%s: %s\n", pad, "", cells[i].name, cells[i].tag, cells[i].value);
    }
    buf_add_str(&x->out, "\n\n");
}
