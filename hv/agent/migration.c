/* The words between two agents, and the threads that carry bytes for them (migration.h). */
#include "migration.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <errno.h>

#define LINE_MAX_BYTES (512u << 10)
#define SAY_MS 30000
#define LOOK_MS 100 /* how often a cancellation is looked at */

void migration_talk_done(struct migration_talk *talk)
{
    stream_close(talk->stream);
    talk->stream = NULL;
    buf_done(&talk->in);
}

int migration_say(struct migration_talk *talk, json_t *moved, struct hv_err *err)
{
    struct buf text AUTO_BUF = BUF_INIT;
    json_write(&text, moved);
    json_decref(moved);
    buf_add_char(&text, '\n');
    if (talk->stream && stream_write_all(talk->stream, text.data, text.len, SAY_MS) == 0)
        return 0;
    return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the other host was lost.");
}

int migration_say_error(struct migration_talk *talk, const struct hv_err *why)
{
    return migration_say(
        talk, json_pack("{s:{s:s, s:s}}", "error", "kind", hv_err_kind_name(why->kind), "text", why->text),
        NULL);
}

static enum hv_err_kind kind_of(const char *word)
{
    for (int i = 0; i < HV_ERR_KIND_COUNT; i++)
        if (streq(word, hv_err_kind_name((enum hv_err_kind)i)))
            return (enum hv_err_kind)i;
    return HV_ERR_KIND_INTERNAL;
}

/* A whole line out of what was read; false: there is none yet. */
static bool take_line(struct migration_talk *talk, json_t **out, bool *refused, int *outcome,
                      struct hv_err *err)
{
    const char *end = talk->in.len ? memchr(talk->in.data, '\n', talk->in.len) : NULL;
    if (!end)
        return false;
    size_t len = (size_t)(end - talk->in.data);
    struct json_error bad;
    json_t *json = json_parse(talk->in.data, len, &bad);
    memmove(talk->in.data, end + 1, talk->in.len - len - 1);
    talk->in.len -= len + 1;
    const char *kind = "", *text = "";
    const json_t *error = json_object_get(json, "error");
    if (error && json_get_string(error, "kind", &kind) && json_get_string(error, "text", &text)) {
        *refused = true;
        *outcome = hv_fail(err, kind_of(kind), "%s", text);
        json_decref(json);
    } else if (!json_is_object(json) || error) {
        *outcome =
            hv_fail(err, HV_ERR_KIND_INTERNAL, "The other host's agent says what cannot be understood.");
        json_decref(json);
    } else {
        *outcome = 0;
        *out = json;
    }
    return true;
}

/* 1: something came; 0: nothing yet. */
static int read_some(struct migration_talk *talk, struct hv_err *err)
{
    if (talk->in.len > LINE_MAX_BYTES)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The other host's agent sends a line without end.");
    ssize_t n = stream_read(talk->stream, buf_reserve(&talk->in, 16384), 16384);
    if (n > 0) {
        buf_advance(&talk->in, (size_t)n);
        return 1;
    }
    if (n < 0 && errno == EAGAIN)
        return 0;
    return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the other host was lost.");
}

int migration_hear(struct migration_talk *talk, int64_t wait_ms, const struct hv_deadline *deadline,
                   json_t **out, bool *refused, struct hv_err *err)
{
    int64_t end = clock_mono_ms() + wait_ms;
    int outcome;
    *refused = false;
    if (!talk->stream)
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the other host was lost.");
    while (!take_line(talk, out, refused, &outcome, err)) {
        int64_t now = clock_mono_ms();
        if (deadline && deadline->cancelled && atomic_load(deadline->cancelled))
            return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
        if (now >= end || (deadline && now >= deadline->mono_ms))
            return hv_fail(err, HV_ERR_KIND_DEADLINE, "The other host did not answer in time.");
        int got = read_some(talk, err);
        if (got < 0)
            return -1;
        if (got == 0)
            stream_wait_readable(talk->stream, end - now < LOOK_MS ? end - now : LOOK_MS);
    }
    return outcome;
}

bool migration_has_news(struct migration_talk *talk)
{
    struct hv_err err;
    return talk->in.len > 0 || read_some(talk, &err) != 0;
}
