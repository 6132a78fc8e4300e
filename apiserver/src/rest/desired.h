/* Desired state: a document of networks, SRs and VMs by name, compared with the rows. Pure: reads a snapshot.
 *
 *     {"networks": {"backend": {"description": "", "mtu": 1500, "tags": [], "other_config": {}}},
 *      "srs":      {"disks": {"type": "file", "device_config": {"location": "/srv/disks"}, "shared": false}},
 *      "vms":      {"web1": {"template": "Debian", "memory": 1073741824, "vcpus": 2, "running": true,
 *                            "disks": [{"device": "0", "name": "root", "sr": "disks", "size": 8589934592}],
 *                            "nics":  [{"device": "0", "network": "backend"}]}}}
 *
 * What the document does not name is left alone. */
#pragma once
#include "internal.h"

#define DESIRED_OBJECTS_MAX 2000

/* One message that brings the pool nearer to the document. */
struct desired_step {
    const char *message; /* "VM.create"; static */
    json_t *params;      /* positional, without the session; NULL: an earlier step has to be done first */
    char *text;          /* a sentence */
};
struct desired {
    struct desired_step *steps;
    size_t count;
    json_t *reasons; /* [{"object": "vms/web1", "why": sentence}]: what no step would bring about */
};
void desired_done(struct desired *desired);
#define AUTO_DESIRED __attribute__((cleanup(desired_done)))

/* The document's form alone: 0, or -1 with INVALID_VALUE [path in the document, sentence]. */
int desired_check(const json_t *document, struct api_err *err);
/* The keys of other_config that an object of the document shall have, those of cloud_init among them. The
 * caller's. */
json_t *desired_config(const json_t *wish);
/* What is missing, in the order in which it is to be done; nothing when the pool is as the document (which
 * was checked) says. Always fills *out. */
void desired_compare(const struct snapshot *snap, struct ref pool, const json_t *document,
                     struct desired *out);
/* One step or reason more; `params` moves in. */
void desired_step(struct desired *desired, const char *message, json_t *params, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void desired_refuse(struct desired *desired, const char *object, const char *why);
/* The document of what there is; comparing with it finds nothing to do. The caller's. */
json_t *desired_export(const struct snapshot *snap);

/* ---- the way back: undo.c ---- */

/* Before a document is applied: notes in the database what its objects are, in place of the note before. */
int undo_note(struct server *server, const char *user, const struct snapshot *snap, const json_t *document,
              struct api_err *err);
/* The note of the last apply; NULL: none. The caller's. */
json_t *undo_read(struct server *server);
int undo_forget(struct server *server, struct api_err *err);
/* As desired_compare, from a note. Always fills *out. */
void undo_compare(const struct snapshot *snap, struct ref pool, const json_t *note, struct desired *out);
