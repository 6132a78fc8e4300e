/* An in-memory XenAPI for tests of the engine: tables from a JSON fixture, generic messages, and a
 * log of every call. Commands run against it as xe would; what they print is kept. */
#pragma once
#include <base/buf.h>
#include <jansson.h>
#include <xe/engine.h>

struct fake {
    json_t *tables;  /* class -> ref -> record */
    json_t *answers; /* method -> result, for messages that are not generic */
    json_t *errors;  /* method -> ["CODE", params...] */
    struct buf log;  /* "VM.start [\"OpaqueRef:..\",false,false]\n" for each call that is not a read */
    struct buf reads;
    struct buf out, err;
    const char *answer; /* what the user types; NULL: no one to ask */
    int made;
    bool colours;   /* styles are written as <number> */
    bool interrupt; /* the next event.from ends as if Ctrl-C was pressed */
    int rounds;     /* so many calls of event.from end before that; then `interrupt` counts */
    struct xe_api api;
};
/* Reads tests/fixture.json. */
void fake_init(struct fake *f);
void fake_done(struct fake *f);
/* Runs "vm-list params=all": words between blanks, '...' keeps blanks. The exit code. */
int fake_run(struct fake *f, const char *line);
const char *fake_out(const struct fake *f);
const char *fake_err(const struct fake *f);
const char *fake_log(const struct fake *f);
size_t fake_count(const struct fake *f, const char *method);
