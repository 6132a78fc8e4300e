/* A small data model of the tests' own, with one of everything: relations of both shapes, plain
 * references of all forms, runtime fields and classes, every representation. Independent of openapi/. */
#pragma once
#include <db/store.h>
#include <jansson.h>
#include <model/model.h>

enum { C_DISK, C_GUEST, C_LINK, C_GROUP, C_JOB, C_KIND, C_ERRAND, C_COUNT };
extern const struct class_desc fixture_classes[C_COUNT];
#define DISK (&fixture_classes[C_DISK])
#define GUEST (&fixture_classes[C_GUEST])
#define LINK (&fixture_classes[C_LINK])
#define GROUP (&fixture_classes[C_GROUP])
#define JOB (&fixture_classes[C_JOB])
#define KIND (&fixture_classes[C_KIND])
#define ERRAND (&fixture_classes[C_ERRAND])

/* Persistent, no runtime fields. */
struct disk_row {
    struct row row;
    const char *uuid, *name_label;
    int64_t size;
    const struct ref_set *links; /* derived from link.disk */
    struct ref parent;           /* plain */
};
/* Persistent with a runtime field. */
struct guest_row {
    struct row row;
    const char *uuid, *name_label;
    bool running; /* runtime */
    const struct str_map *other_config;
    const struct ref_set *links;    /* derived from link.guest */
    const struct ref_set *groups;   /* free set, group.guests is derived */
    const struct ref_set *children; /* derived from guest.parent */
    struct ref parent;
    struct ref home;                  /* plain, of disk */
    const struct ref_set *favourites; /* plain set, of disk */
    const struct str_map *notes;      /* plain map, disk -> text */
    struct ref job;                   /* plain, to a class that is in memory only */
};
/* A link between a guest and a disk. */
struct link_row {
    struct row row;
    const char *uuid;
    struct ref guest, disk;
    bool bootable;
};
struct group_row {
    struct row row;
    const char *uuid, *name_label;
    const struct ref_set *guests;
};
/* On disk without waiting for it. */
struct errand_row {
    struct row row;
    const char *uuid, *name_label;
    bool moving; /* runtime */
};
/* In memory only. */
struct job_row {
    struct row row;
    const char *uuid, *name_label;
    struct ref parent;
    const struct ref_set *children;
    struct ref guest; /* plain */
    double progress;
};
/* One field of each representation. */
struct kind_row {
    struct row row;
    const char *uuid;
    bool flag;
    int64_t number, date;
    double real;
    int colour;
    const char *text;
    struct ref other;
    const struct str_set *words, *numbers;
    const struct ref_set *others;
    uint64_t colours;
    const struct str_map *pairs, *counts;
    json_t *nested;
    const char *secret; /* internal */
};

enum { RED, GREEN, BLUE };
extern const struct enum_desc fixture_colours;

/* The rows' own types from the generic one. */
#define AS(type, row) ((struct type##_row *)(uintptr_t)(row))

/* A configuration with these classes, memory only until a path is set. */
struct store_config fixture_config(void);
struct store *fixture_open(const char *path);
/* A fresh temporary folder; fixture_remove deletes it with everything in it. Caller's storage. */
void fixture_folder(char out[static 64]);
void fixture_remove(const char *folder);
/* Commits, and fails the test when that fails. */
uint64_t fixture_commit(struct tx *tx);
void fixture_check(struct store *store);
