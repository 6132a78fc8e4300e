/* A server without network in a memory store, and agents that are not there: every call that handlers make
 * comes here, is noted, and works on a table of disks. A test changes what happens with fake.hook. */
#pragma once
#include "../../src/server.h"
#include <hv/client.h>

#define FAKE_GIB ((int64_t)1 << 30)

struct fake_disk {
    char sr[UUID_TEXT_SIZE];
    char name[64]; /* uuid, or a file's name */
    int64_t size_bytes;
};

struct fake {
    struct server server;
    struct ref host, sr, pbd,
        iso; /* rows that fake_start makes: a file SR and an ISO SR, attached on one host */
    struct fake_disk disks[32];
    size_t disk_count;
    char log[64][160]; /* "disk_create 0123..." */
    size_t log_count;
    /* Called in place of the default, which it may call: fake_default. NULL: the default. */
    int (*hook)(enum hv_call_id call, const void *args, void *result, struct hv_err *err);
};
extern struct fake fake;

void fake_start(void);
void fake_stop(void);
int fake_default(enum hv_call_id call, const void *args, void *result, struct hv_err *err);
/* How often that call was made. */
size_t fake_count(const char *call);
bool fake_has_disk(const char *name);
void fake_add_disk(const char *sr_uuid, const char *name, int64_t size_bytes);

/* A call to give a handler: its snapshot is of now. */
struct call *fake_call(void);
#define AUTO_CALL __attribute__((cleanup(fake_call_done)))
void fake_call_done(struct call **call);
