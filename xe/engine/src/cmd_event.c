/* event-wait: returns once an object of a class fits all filters ("field=/=value": any other value). */
#include "run.h"
#include "xe_handlers.h"
#include <base/clock.h>

static const char *const OWN[] = {"class", "timeout", NULL};

/* Looks at each reported object; the records that its fields lead to are fetched afresh. */
static int any_fits(struct xe_run_state *x, const struct xe_class *cls, const struct xe_filters *filters,
                    const json_t *events, bool *fits)
{
    size_t i;
    const json_t *event;
    json_decref(x->objects);
    x->objects = NULL;
    json_array_foreach(events, i, event)
    {
        const json_t *record = json_object_get(event, "snapshot");
        if (!json_is_object(record))
            continue;
        if (xe_filters_match(x, cls, filters, xe_str(event, "ref"), record, fits) < 0)
            return -1;
        if (*fits)
            return 0;
    }
    return 0;
}

static int deadline_arg(struct xe_run_state *x, int64_t *deadline)
{
    const char *text = xe_arg(x, "timeout");
    char *end;
    if (!text)
        return 0;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0) || seconds > 1e9)
        return xe_fail(x, XE_ERR_CLI, "timeout must be a number of seconds, not '%s'", text);
    *deadline = clock_mono_ms() + (int64_t)(seconds * 1000);
    return 0;
}

int xe_cmd_event_wait(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name;
    int64_t deadline = INT64_MAX;
    const char *const *const skip[] = {OWN, NULL};
    AUTO_FILTERS struct xe_filters filters = {0};
    (void)cmd;
    if (xe_arg_required(x, "class", &name) < 0 || deadline_arg(x, &deadline) < 0)
        return -1;
    const struct xe_class *cls = xe_class_find(name);
    if (!cls)
        return xe_fail(x, XE_ERR_CLI, "there is no class '%s'; classes are named as in 'xe <class>-list'",
                       name);
    if (xe_filters_parse(x, cls, skip, &filters) < 0)
        return -1;
    AUTO_FREE char *token = xstrdup("");
    for (bool fits = false; !fits;) {
        AUTO_JSON json_t *answer = NULL;
        int64_t left = deadline == INT64_MAX ? 30000 : deadline - clock_mono_ms();
        if (left <= 0)
            return xe_fail(x, XE_ERR_CLI, "no object fitted within the timeout");
        double wait = left > 30000 ? 30.0 : (double)left / 1000;
        if (xe_call(x, "event.from", &answer, "[[s]sf]", cls->api, token, wait) < 0 ||
            any_fits(x, cls, &filters, json_object_get(answer, "events"), &fits) < 0)
            return -1;
        free(token);
        token = xstrdup(xe_str(answer, "token"));
    }
    return 0;
}
