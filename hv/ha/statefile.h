/* The heartbeat disk ("statefile"): a raw disk on storage that every host of the pool sees. Sector 0 says
 * whether high availability is on; each host has a slot that it alone writes, and a verdict about it that the
 * pool's server has written through another host's agent. Each sector is written whole, with a checksum and
 * the generation: the uuid of this switching-on, so that what an earlier one left means nothing.
 *
 * The file is opened anew for each access and read and written past the page cache where the file system can:
 * what is read is what the storage holds, and storage that went and came back is found again. Calls block for
 * as long as the storage does. -1: *error has a sentence. Any thread. */
#pragma once
#include <base/ref.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATEFILE_SECTOR 4096
#define STATEFILE_HOSTS_MAX 127
#define STATEFILE_SECTORS (1 + 2 * STATEFILE_HOSTS_MAX)
#define STATEFILE_BYTES (1 << 20)

enum statefile_state {
    STATEFILE_NOTHING, /* never written in this generation, or not readable */
    STATEFILE_ALIVE,   /* slot: the host's guests may run. header: it is on */
    STATEFILE_FENCED,  /* slot: the host has ended its guests */
    STATEFILE_OFF,     /* slot: the host takes no part. header: it is off */
    STATEFILE_OUT,     /* verdict: counts as failed up to that sequence number */
};

struct statefile_entry {
    uint32_t index; /* of its sector */
    enum statefile_state state;
    uint64_t sequence; /* grows with each write of a slot */
    char generation[UUID_TEXT_SIZE];
    char host[UUID_TEXT_SIZE]; /* "": the header */
};

struct statefile_error {
    char text[160];
};

size_t statefile_slot(size_t host);    /* sector of a host's slot, by its index */
size_t statefile_verdict(size_t host); /* and of the verdict about it */

void statefile_encode(const struct statefile_entry *entry, uint8_t sector[static STATEFILE_SECTOR]);
/* False: it is none, or torn. */
bool statefile_decode(const uint8_t sector[static STATEFILE_SECTOR], struct statefile_entry *entry);

/* Returns when the sector is on the storage. */
int statefile_write(const char *path, const struct statefile_entry *entry, struct statefile_error *error);
/* One sector, or all up to those of `hosts` hosts: what is not of this generation or not in its place has
 * state STATEFILE_NOTHING. entries[sector]. */
int statefile_read(const char *path, size_t sector, const char *generation, struct statefile_entry *entry,
                   struct statefile_error *error);
int statefile_read_all(const char *path, size_t hosts, const char *generation,
                       struct statefile_entry *entries, struct statefile_error *error);
