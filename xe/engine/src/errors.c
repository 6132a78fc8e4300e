/* What the user reads when a command fails: a sentence, the parameters by name, a hint. */
#include "run.h"
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

int xe_fail(struct xe_run_state *x, enum xe_err_kind kind, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    xe_err_vset(&x->err, kind, format, args);
    va_end(args);
    return -1;
}

bool xe_err_is(const struct xe_err *err, const char *code)
{
    return err->kind == XE_ERR_API && streq(err->code, code);
}

const char *xe_field_nearest(const struct xe_class *cls, const char *name)
{
    const char **names = xcalloc(cls->field_count, sizeof *names);
    for (size_t i = 0; i < cls->field_count; i++)
        names[i] = cls->fields[i].name;
    const char *near = xe_nearest(name, names, cls->field_count);
    free(names);
    return near;
}

int xe_unknown_field(struct xe_run_state *x, const struct xe_class *cls, const char *name)
{
    AUTO_BUF struct buf b = BUF_INIT;
    const char *near = xe_field_nearest(cls, name);
    buf_printf(&b, "%s has no field '%s'.", cls->one, name);
    b.data[0] = b.data[0] == 'a' ? 'A' : b.data[0];
    if (near)
        buf_printf(&b, " Did you mean '%s'?", near);
    buf_add_str(&b, " Its fields:");
    for (size_t i = 0, column = 0; i < cls->field_count; i++) {
        if (cls->fields[i].flags & XE_HIDDEN)
            continue;
        size_t n = strlen(cls->fields[i].name) + 2;
        if (i == 0 || column + n > 76) {
            buf_add_str(&b, "\n    ");
            column = 4;
        }
        column += n;
        buf_printf(&b, "%s%s", cls->fields[i].name, i + 1 < cls->field_count ? ", " : "");
    }
    AUTO_JSON json_t *params = json_pack("[s]", name);
    xe_err_set_api(&x->err, "Missing parameter", params);
    x->err.text = buf_take(&b);
    return -1;
}

static int by_code(const void *code, const void *row)
{
    return strcmp(code, ((const struct xe_error_text *)row)->code);
}

static const struct xe_error_text *error_text(const char *code)
{
    return bsearch(code, xe_error_texts, xe_error_text_count, sizeof *xe_error_texts, by_code);
}

/* Storage back ends number their failures: SR_BACKEND_FAILURE_46 reads as SR_BACKEND_FAILURE. */
static const struct xe_error_text *error_text_family(const char *code)
{
    const struct xe_error_text *t = error_text(code);
    if (!t && strncmp(code, "SR_BACKEND_FAILURE_", 19) == 0)
        t = error_text("SR_BACKEND_FAILURE");
    return t;
}

/* The API class that a parameter's name speaks of, or NULL. */
static const char *class_of_param(const struct xe_err *err, size_t i, const char *name)
{
    if ((streq(err->code, "HANDLE_INVALID") || streq(err->code, "OTHER_OPERATION_IN_PROGRESS")) && i == 1)
        name = err->params[0];
    for (size_t c = 0; c < xe_class_count; c++)
        if (strcasecmp(xe_classes[c]->api, name) == 0)
            return xe_classes[c]->api;
    return NULL;
}

/* A reference as "uuid (name-label)", when the server still knows the object. */
static char *readable(struct xe_run_state *x, const struct xe_err *err, size_t i, const char *name)
{
    const char *value = err->params[i], *cls = name ? class_of_param(err, i, name) : NULL;
    if (strncmp(value, "OpaqueRef:", 10) != 0 || xe_ref_null(value) || !cls ||
        streq(err->code, "HANDLE_INVALID"))
        return xstrdup(value);
    const json_t *record = NULL;
    if (xe_record(x, cls, value, &record) < 0 || !record)
        return xstrdup(value);
    const char *label = xe_str(record, "name_label");
    return *label ? xasprintf("%s (%s)", xe_str(record, "uuid"), label) : xstrdup(xe_str(record, "uuid"));
}

void xe_explain(struct xe_run_state *x, const char *code, const json_t *params)
{
    struct xe_err err = {0};
    const struct xe_error_text *t;
    xe_err_set_api(&err, code, params);
    t = error_text_family(code);
    for (size_t i = 0, named = 0; i < err.param_count; i++) {
        const char *name = t && t->params[named] ? t->params[named++] : NULL;
        AUTO_FREE char *value = readable(x, &err, i, name);
        buf_printf(&x->out, "        %s: %s\n", name ? name : "and", value);
    }
    xe_err_done(&err);
    xe_err_done(&x->err);
}

static void print_api(struct xe_run_state *x, const struct xe_err *err)
{
    const struct xe_error_text *t = error_text_family(err->code);
    if (streq(err->code, "SESSION_AUTHENTICATION_FAILED")) {
        xe_note(x, "%s",
                err->param_count && !*err->params[0] ? "Username/password must be specified"
                                                     : "Authentication failed");
        return;
    }
    if (!t) {
        AUTO_BUF struct buf b = BUF_INIT;
        for (size_t i = 0; i < err->param_count; i++)
            buf_printf(&b, "%s%s", i ? ", " : "", err->params[i]);
        xe_note(x, "Error code: %s\nError parameters: %s", err->code, b.len ? b.data : "");
        if (err->text)
            xe_note(x, "%s", err->text);
        return;
    }
    if (t->sentence)
        xe_note(x, "%s (%s)", t->sentence, err->code);
    else
        xe_note(x, "The server refused this: %s", err->code);
    size_t declared = 0;
    while (t->params[declared])
        declared++;
    bool of_storage = strncmp(err->code, "SR_BACKEND_FAILURE", 18) == 0;
    for (size_t i = 0; i < err->param_count || i < declared; i++) {
        /* Of status, stdout and stderr a failure of storage fills one. */
        if (of_storage && i < err->param_count && !*err->params[i])
            continue;
        const char *name = i < declared ? t->params[i] : NULL;
        AUTO_FREE char *value = i < err->param_count ? readable(x, err, i, name) : xstrdup("<unknown>");
        xe_note(x, "%s: %s", name ? name : "<extra>", value);
    }
}

static void hint(struct xe_run_state *x)
{
    if (x->cmd) {
        AUTO_BUF struct buf b = BUF_INIT;
        xe_usage_line(x->cmd, &b);
        x->api->print_error(x->api->ctx, b.data, b.len);
        xe_note(x, "For usage run: 'xe help %s'", x->cmd->name);
    } else {
        xe_note(x, "For usage run: 'xe help'");
    }
}

void xe_print_failure(struct xe_run_state *x)
{
    struct xe_err err = x->err;
    x->err = (struct xe_err){0};
    if (x->api->style)
        x->api->style(x->api->ctx, true, XE_STYLE_BAD);
    switch (err.kind) {
    case XE_ERR_NONE:
        xe_note(x, "Error: the command failed without saying why");
        break;
    case XE_ERR_API:
        print_api(x, &err);
        if (streq(err.code, "SESSION_AUTHENTICATION_FAILED"))
            xe_note(x, "For usage run: 'xe help'");
        break;
    case XE_ERR_PLAIN:
    case XE_ERR_TRANSPORT:
        xe_note(x, "%s", err.text);
        break;
    case XE_ERR_USAGE:
        xe_note(x, "%s", err.text);
        hint(x);
        break;
    case XE_ERR_CLI:
        xe_note(x, "Error: %s", err.text);
        break;
    case XE_ERR_UNFINISHED:
    case XE_ERR_CANCELLED:
        xe_note(x, "%s", err.text && *err.text ? err.text : "Interrupted.");
        break;
    }
    if (x->api->style)
        x->api->style(x->api->ctx, true, XE_STYLE_PLAIN);
    xe_err_done(&err);
}

char *xe_err_line(const struct xe_err *err)
{
    AUTO_BUF struct buf b = BUF_INIT;
    if (err->kind != XE_ERR_API)
        return xstrdup(err->text ? err->text : "");
    const struct xe_error_text *t = error_text_family(err->code);
    if (t && t->sentence)
        buf_printf(&b, "%s ", t->sentence);
    buf_add_str(&b, err->code);
    for (size_t i = 0; i < err->param_count; i++)
        buf_printf(&b, "%s%s", i ? ", " : ": ", err->params[i]);
    return buf_take(&b);
}
