/* See fake.h. */
#include "fake.h"
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>

static int api_error(struct xe_err *err, json_t *params)
{
    AUTO_FREE char *code = xstrdup(json_string_value(json_array_get(params, 0)));
    json_array_remove(params, 0);
    xe_err_set_api(err, code, params);
    json_decref(params);
    return -1;
}

static const char *arg(json_t *params, size_t i)
{
    const char *s = json_string_value(json_array_get(params, i));
    return s ? s : "";
}

/* "OpaqueRef:made-1", with a record that knows its uuid. */
static json_t *make(struct fake *f, const char *cls, json_t *record)
{
    AUTO_FREE char *ref = xasprintf("OpaqueRef:made-%d", ++f->made),
                   *uuid = xasprintf("made-uuid-%d", f->made);
    json_t *copy = json_is_object(record) ? json_copy(record) : json_object();
    json_object_set_new(copy, "uuid", json_string(uuid));
    if (!json_object_get(f->tables, cls))
        json_object_set_new(f->tables, cls, json_object());
    json_object_set_new(json_object_get(f->tables, cls), ref, copy);
    return json_string(ref);
}

static json_t *by(json_t *table, const char *member, const char *value, bool all)
{
    json_t *refs = json_array(), *record;
    const char *ref;
    json_object_foreach(table, ref, record) if (streq(json_string_value(json_object_get(record, member))
                                                          ? json_string_value(json_object_get(record, member))
                                                          : "",
                                                      value)) json_array_append_new(refs, json_string(ref));
    if (all)
        return refs;
    json_t *first = json_incref(json_array_get(refs, 0));
    json_decref(refs);
    return first;
}

static int setter(struct fake *f, json_t *table, const char *message, json_t *params, json_t **result,
                  struct xe_err *err)
{
    json_t *record = json_object_get(table, arg(params, 0)), *field;
    (void)f;
    if (!record)
        return api_error(err, json_pack("[sss]", "HANDLE_INVALID", "x", arg(params, 0)));
    *result = json_string("");
    if (strncmp(message, "set_", 4) == 0)
        return json_object_set(record, message + 4, json_array_get(params, 1));
    if (strncmp(message, "add_to_", 7) == 0)
        return json_object_set(json_object_get(record, message + 7), arg(params, 1),
                               json_array_get(params, 2));
    if (strncmp(message, "remove_from_", 12) == 0) {
        json_object_del(json_object_get(record, message + 12), arg(params, 1));
        return 0;
    }
    if (strncmp(message, "add_", 4) == 0)
        return json_array_append(json_object_get(record, message + 4), json_array_get(params, 1));
    field = json_object_get(record, message + 7);
    for (size_t i = json_array_size(field); i-- > 0;)
        if (json_equal(json_array_get(field, i), json_array_get(params, 1)))
            json_array_remove(field, i);
    return 0;
}

static bool is_setter(const char *m, json_t *table)
{
    return table &&
           (strncmp(m, "set_", 4) == 0 || strncmp(m, "add_", 4) == 0 || strncmp(m, "remove_", 7) == 0);
}

/* The records with only the members that the caller said it would look at. */
static json_t *kept(json_t *table, const char *const *keep)
{
    json_t *record, *out;
    const char *ref;
    if (!keep)
        return table ? json_incref(table) : json_object();
    out = json_object();
    json_object_foreach(table, ref, record)
    {
        json_t *copy = json_object();
        for (const char *const *k = keep; *k; k++)
            if (json_object_get(record, *k))
                json_object_set(copy, *k, json_object_get(record, *k));
        json_object_set_new(out, ref, copy);
    }
    return out;
}

static int generic(struct fake *f, const char *cls, const char *message, json_t *params,
                   const char *const *keep, json_t **result, struct xe_err *err)
{
    json_t *table = json_object_get(f->tables, cls);
    if (streq(message, "get_all_records")) {
        *result = kept(table, keep);
    } else if (streq(message, "get_record")) {
        *result = json_incref(json_object_get(table, arg(params, 0)));
        if (!*result)
            return api_error(err, json_pack("[sss]", "HANDLE_INVALID", cls, arg(params, 0)));
    } else if (streq(message, "get_uuid")) {
        *result = json_incref(json_object_get(json_object_get(table, arg(params, 0)), "uuid"));
    } else if (streq(message, "get_by_uuid")) {
        *result = by(table, "uuid", arg(params, 0), false);
        if (!*result)
            return api_error(err, json_pack("[sss]", "UUID_INVALID", cls, arg(params, 0)));
    } else if (streq(message, "get_by_name_label")) {
        *result = by(table, "name_label", arg(params, 0), true);
    } else if (is_setter(message, table)) {
        return setter(f, table, message, params, result, err);
    } else if (streq(message, "create")) {
        *result = make(f, cls, json_array_get(params, 0));
    } else if (streq(message, "clone") || streq(message, "copy") || streq(message, "snapshot")) {
        *result = make(f, cls, json_object_get(table, arg(params, 0)));
    } else {
        *result = json_string("");
    }
    return 0;
}

/* event.from on a task: it is over. */
static int event_from(struct fake *f, json_t *params, json_t **result, struct xe_err *err)
{
    const char *subscription = arg(json_array_get(params, 0), 0);
    if (f->interrupt && f->rounds-- <= 0) {
        f->interrupt = false;
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
        return -1;
    }
    json_t *events = json_array();
    const char *ref;
    json_t *record;
    if (strncmp(subscription, "task/", 5) == 0) {
        record = json_object_get(json_object_get(f->tables, "task"), subscription + 5);
        json_array_append_new(events, json_pack("{s:s,s:s,s:O}", "ref", subscription + 5, "operation", "mod",
                                                "snapshot", record));
    } else {
        json_object_foreach(json_object_get(f->tables, subscription), ref, record) json_array_append_new(
            events, json_pack("{s:s,s:s,s:O}", "ref", ref, "operation", "add", "snapshot", record));
    }
    *result = json_pack("{s:o,s:s}", "events", events, "token", "1,1");
    return 0;
}

static int call(void *ctx, const char *method, json_t *params, const char *const *keep, json_t **result,
                struct xe_err *err);

/* Runs the call at once and keeps its end in a task. */
static int async(struct fake *f, const char *method, json_t *params, json_t **result)
{
    struct xe_err inner = {0};
    json_t *answer = NULL, *task = json_object();
    if (call(f, method, params, NULL, &answer, &inner) == 0) {
        AUTO_FREE char *text =
            xasprintf("<value>%s</value>", json_string_value(answer) ? json_string_value(answer) : "");
        json_object_set_new(task, "status", json_string("success"));
        json_object_set_new(task, "result", json_string(text));
    } else {
        json_t *info = json_array();
        json_array_append_new(info, json_string(inner.code));
        for (size_t i = 0; i < inner.param_count; i++)
            json_array_append_new(info, json_string(inner.params[i]));
        json_object_set_new(task, "status",
                            json_string(streq(inner.code, "TASK_CANCELLED") ? "cancelled" : "failure"));
        json_object_set_new(task, "error_info", info);
    }
    json_decref(answer);
    xe_err_done(&inner);
    *result = make(f, "task", task);
    json_decref(task);
    return 0;
}

static bool is_read(const char *method)
{
    const char *m = strchr(method, '.') + 1;
    return strncmp(m, "get_", 4) == 0 || streq(method, "event.from");
}

static int call(void *ctx, const char *method, json_t *params, const char *const *keep, json_t **result,
                struct xe_err *err)
{
    struct fake *f = ctx;
    if (strncmp(method, "Async.", 6) == 0)
        return async(f, method + 6, params, result);
    AUTO_FREE char *text = json_dumps(params, JSON_COMPACT);
    buf_printf(is_read(method) ? &f->reads : &f->log, "%s %s\n", method, text);
    json_t *error = json_object_get(f->errors, method), *answer = json_object_get(f->answers, method);
    if (error)
        return api_error(err, json_copy(error));
    if (answer) {
        *result = json_incref(answer);
        return 0;
    }
    if (streq(method, "event.from"))
        return event_from(f, params, result, err);
    AUTO_FREE char *cls = xstrndup(method, (size_t)(strchr(method, '.') - method));
    return generic(f, cls, strchr(method, '.') + 1, params, keep, result, err);
}

static const char *own_session(void *ctx, struct xe_err *err)
{
    (void)ctx, (void)err;
    return "OpaqueRef:own";
}

static void use_session(void *ctx, const char *session)
{
    buf_printf(&((struct fake *)ctx)->log, "SESSION %s\n", session ? session : "own");
}

static void print(void *ctx, const char *text, size_t len)
{
    buf_add(&((struct fake *)ctx)->out, text, len);
}

static void print_error(void *ctx, const char *text, size_t len)
{
    buf_add(&((struct fake *)ctx)->err, text, len);
}

static int prompt(void *ctx, const char *question, char **answer, struct xe_err *err)
{
    struct fake *f = ctx;
    buf_add_str(&f->out, question);
    if (!f->answer) {
        xe_err_set(err, XE_ERR_CLI, "there is no one to ask");
        return -1;
    }
    *answer = xstrdup(f->answer);
    return 0;
}

static int upload(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg_,
                  struct xe_err *err)
{
    struct fake *f = ctx;
    buf_printf(&f->log, "PUT %s %s\n", filename, path);
    progress(arg_, 1, 2);
    json_t *error = json_object_get(f->errors, "PUT");
    if (error && streq(json_string_value(json_array_get(error, 0)), "CANCELLED")) {
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
        return -1;
    }
    json_t *task = json_object_get(json_object_get(f->tables, "task"), strstr(path, "task_id=") + 8);
    json_object_set_new(task, "status", json_string(error ? "failure" : "success"));
    if (!error)
        return 0;
    json_object_set(task, "error_info", error);
    xe_err_set(err, XE_ERR_TRANSPORT, "connection lost");
    return -1;
}

static int rest(void *ctx, const char *method, const char *path, json_t *body, json_t **result,
                struct xe_err *err)
{
    struct fake *f = ctx;
    (void)err;
    buf_printf(&f->log, "%s %s", method, path);
    if (body) {
        buf_add_char(&f->log, ' ');
        json_write(&f->log, body);
    }
    buf_add_char(&f->log, '\n');
    if (streq(method, "GET"))
        *result = json_pack("{s:[{ss,ss,ss,ss,ss,ss,sn}]}", "items", "uuid", "u-1", "name", "ci", "role",
                            "read-only", "user", "root", "created", "2026-01-01T00:00:00Z", "expires",
                            "2026-04-01T00:00:00Z", "last_used");
    else
        *result = json_pack("{s:s,s:s}", "token", "abc.def", "expires", "20260101T00:00:00Z");
    return 0;
}

static void redraw(void *ctx)
{
    buf_add_str(&((struct fake *)ctx)->out, "---\n");
}

static void style(void *ctx, bool on_error, enum xe_style look)
{
    struct fake *f = ctx;
    if (f->colours)
        buf_printf(on_error ? &f->err : &f->out, "<%d>", (int)look);
}

static int console(void *ctx, const char *path, struct xe_err *err)
{
    (void)err;
    buf_printf(&((struct fake *)ctx)->log, "CONSOLE %s\n", path);
    return 0;
}

void fake_init(struct fake *f)
{
    json_error_t error;
    *f = (struct fake){
        .tables = json_load_file(FIXTURE, 0, &error), .answers = json_object(), .errors = json_object()};
    cr_assert(f->tables, "%s: %s", FIXTURE, error.text);
    f->api = (struct xe_api){.ctx = f,
                             .call = call,
                             .session = own_session,
                             .use_session = use_session,
                             .print = print,
                             .print_error = print_error,
                             .prompt = prompt,
                             .upload = upload,
                             .download = upload,
                             .console = console,
                             .rest = rest,
                             .style = style,
                             .redraw = redraw};
}

void fake_done(struct fake *f)
{
    json_decref(f->tables);
    json_decref(f->answers);
    json_decref(f->errors);
    buf_done(&f->log);
    buf_done(&f->reads);
    buf_done(&f->out);
    buf_done(&f->err);
}

int fake_run(struct fake *f, const char *line)
{
    AUTO_FREE char *copy = xstrdup(line);
    const char *words[32];
    int n = 0;
    for (char *s = copy; *s;) {
        while (*s == ' ')
            *s++ = '\0';
        if (!*s)
            break;
        words[n++] = s;
        char *to = s;
        bool quoted = false;
        for (; *s && (quoted || *s != ' '); s++) {
            if (*s == '\'')
                quoted = !quoted;
            else
                *to++ = *s;
        }
        char *end = s;
        if (*s)
            s++;
        *end = '\0';
        *to = '\0';
    }
    buf_clear(&f->out);
    buf_clear(&f->err);
    buf_clear(&f->log);
    buf_clear(&f->reads);
    return xe_run(&f->api, n, words);
}

const char *fake_out(const struct fake *f)
{
    return f->out.len ? f->out.data : "";
}

const char *fake_err(const struct fake *f)
{
    return f->err.len ? f->err.data : "";
}

const char *fake_log(const struct fake *f)
{
    return f->log.len ? f->log.data : "";
}

size_t fake_count(const struct fake *f, const char *method)
{
    size_t n = 0;
    AUTO_FREE char *start = xasprintf("%s ", method);
    for (const char *s = f->reads.len ? f->reads.data : ""; (s = strstr(s, start)); s++)
        n++;
    return n;
}
