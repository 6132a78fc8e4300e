/* struct xe_err: why a step failed, as data. Used by the engine and by who embeds it. */
#include <base/mem.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <xe/engine.h>

void xe_err_done(struct xe_err *err)
{
    free(err->code);
    free(err->text);
    for (size_t i = 0; i < err->param_count; i++)
        free(err->params[i]);
    free(err->params);
    *err = (struct xe_err){0};
}

void xe_err_vset(struct xe_err *err, enum xe_err_kind kind, const char *format, va_list args)
{
    char *text;
    if (vasprintf(&text, format, args) < 0)
        abort();
    xe_err_done(err);
    err->kind = kind;
    err->text = text;
}

void xe_err_set(struct xe_err *err, enum xe_err_kind kind, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    xe_err_vset(err, kind, format, args);
    va_end(args);
}

void xe_err_set_api(struct xe_err *err, const char *code, const json_t *params)
{
    char *copy = xstrdup(code);
    size_t n = json_array_size(params);
    char **list = n ? xcalloc(n, sizeof *list) : NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(params, i);
        if (json_is_string(p)) {
            list[i] = xstrdup(json_string_value(p));
        } else {
            list[i] = json_dumps(p, JSON_COMPACT | JSON_ENCODE_ANY);
            if (!list[i])
                list[i] = xstrdup("");
        }
    }
    xe_err_done(err);
    err->kind = XE_ERR_API;
    err->code = copy;
    err->params = list;
    err->param_count = n;
}
