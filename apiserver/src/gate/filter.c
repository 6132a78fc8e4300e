/* Subscriptions and tokens of event.from (XenAPI: event.from, classes and token). */
#include "filter.h"

#include <base/mem.h>
#include <errno.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>
#include <strings.h>

static const struct class_desc *class_of(const char *name, size_t len)
{
    for (size_t i = 0; i < model_class_count; i++)
        if (strlen(model_classes[i].name) == len && strncasecmp(model_classes[i].name, name, len) == 0)
            return &model_classes[i];
    return NULL;
}

static void mark(uint64_t set[static EVENT_CLASS_WORDS], const struct class_desc *cls)
{
    set[cls->index / 64] |= (uint64_t)1 << (cls->index % 64);
}

static bool marked(const uint64_t set[static EVENT_CLASS_WORDS], const struct class_desc *cls)
{
    return set[cls->index / 64] >> (cls->index % 64) & 1;
}

static void filter_add(struct event_filter *filter, const char *text)
{
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    const struct class_desc *cls = class_of(text, len);
    if (!cls || !(cls->flags & CLASS_EVENTS))
        return;
    if (!slash) {
        mark(filter->whole, cls);
        mark(filter->any, cls);
        return;
    }
    struct ref ref;
    if (!ref_parse(slash + 1, &ref))
        return; /* no object has such a reference */
    mark(filter->any, cls);
    filter->objects = xreallocarray(filter->objects, filter->count + 1, sizeof(*filter->objects));
    filter->objects[filter->count++] = (struct event_object){cls, ref};
}

static int object_cmp(const void *a, const void *b)
{
    const struct event_object *x = a, *y = b;
    if (x->cls != y->cls)
        return x->cls < y->cls ? -1 : 1;
    return ref_cmp(x->ref, y->ref);
}

int event_filter_parse(const struct str_set *classes, struct event_filter **out, struct api_err *err)
{
    struct event_filter *filter = xcalloc(1, sizeof(*filter));
    for (size_t i = 0; classes && i < classes->count; i++) {
        const char *text = classes->items[i];
        const char *slash = strchr(text, '/');
        if (*text == '\0' || slash == text || (slash && (slash[1] == '\0' || strchr(slash + 1, '/')))) {
            event_filter_free(filter);
            return err_event_subscription_parse_failure(err, text);
        }
        if (streq(text, "*")) {
            for (size_t c = 0; c < model_class_count; c++)
                if (model_classes[c].flags & CLASS_EVENTS) {
                    mark(filter->whole, &model_classes[c]);
                    mark(filter->any, &model_classes[c]);
                }
            continue;
        }
        filter_add(filter, text);
    }
    if (filter->count > 1)
        qsort(filter->objects, filter->count, sizeof(*filter->objects), object_cmp);
    *out = filter;
    return 0;
}

struct event_filter *event_filter_copy(const struct event_filter *filter)
{
    struct event_filter *copy = xmalloc(sizeof(*copy));
    *copy = *filter;
    copy->objects = NULL;
    if (filter->count) {
        copy->objects = xreallocarray(NULL, filter->count, sizeof(*copy->objects));
        memcpy(copy->objects, filter->objects, filter->count * sizeof(*copy->objects));
    }
    return copy;
}

void event_filter_free(struct event_filter *filter)
{
    if (!filter)
        return;
    free(filter->objects);
    free(filter);
}

bool event_filter_has(const struct event_filter *filter, const struct class_desc *cls, struct ref ref)
{
    if (marked(filter->whole, cls))
        return true;
    if (!marked(filter->any, cls))
        return false;
    const struct event_object wanted = {cls, ref};
    return filter->count &&
           bsearch(&wanted, filter->objects, filter->count, sizeof(*filter->objects), object_cmp);
}

bool event_filter_only(const struct event_filter *filter, const struct class_desc *cls)
{
    for (size_t i = 0; i < EVENT_CLASS_WORDS; i++)
        if (filter->any[i] != (i == cls->index / 64 ? (uint64_t)1 << (cls->index % 64) : 0))
            return false;
    return true;
}

static bool digits20(const char *text)
{
    return strspn(text, "0123456789") >= 20;
}

int event_token_parse(const char *text, uint64_t *generation, struct api_err *err)
{
    if (*text == '\0') {
        *generation = 0;
        return 0;
    }
    if (strlen(text) != 41 || !digits20(text) || text[20] != ',' || !digits20(text + 21))
        return err_event_from_token_parse_failure(err, text);
    errno = 0;
    uint64_t value = strtoull(text, NULL, 10);
    if (errno)
        return err_event_from_token_parse_failure(err, text);
    *generation = value;
    return 0;
}

void event_token_format(uint64_t generation, char out[static EVENT_TOKEN_SIZE])
{
    snprintf(out, EVENT_TOKEN_SIZE, "%020" PRIu64 ",%020" PRIu64, generation, generation);
}
