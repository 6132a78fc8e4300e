/* What a subscriber wants to hear of: "*", "class", "class/ref". Pure. */
#pragma once
#include <model/error.h>
#include <model/model.h>

#define EVENT_CLASS_WORDS 2

struct event_filter {
    uint64_t whole[EVENT_CLASS_WORDS]; /* bit: class index; every object of it */
    uint64_t any[EVENT_CLASS_WORDS];   /* whole, or some objects of it */
    size_t count;
    /* In order, so that one of thousands is found quickly. */
    struct event_object {
        const struct class_desc *cls;
        struct ref ref;
    } * objects;
};

/* Class names ignore case; unknown ones match nothing. -1: EVENT_SUBSCRIPTION_PARSE_FAILURE. */
int event_filter_parse(const struct str_set *classes, struct event_filter **out, struct api_err *err);
struct event_filter *event_filter_copy(const struct event_filter *filter);
void event_filter_free(struct event_filter *filter);
bool event_filter_has(const struct event_filter *filter, const struct class_desc *cls, struct ref ref);
/* True if it chooses from this class and no other. */
bool event_filter_only(const struct event_filter *filter, const struct class_desc *cls);

/* Tokens: two numbers of twenty digits and a comma. "" is the beginning: 0. */
int event_token_parse(const char *text, uint64_t *generation, struct api_err *err);
#define EVENT_TOKEN_SIZE 42
void event_token_format(uint64_t generation, char out[static EVENT_TOKEN_SIZE]);
