/* One import of VMs, shared by import.c (bytes and order), import_plan.c (what the archive's objects are
 * here) and import_rows.c (rows). */
#pragma once
#include "../handlers/storage.h"
#include "../xva/ova.h"
#include "../xva/xva.h"
#include "transfer.h"

/* A VM of the archive. */
struct import_vm {
    const struct ova_object *object;
    struct row *record; /* what it says, admitted */
    bool is_snapshot;
    struct ref ref; /* its row, once made */
};
/* An object that is here already, or that was made by the plan: SR, network, host, VDI. */
struct import_link {
    const struct ova_object *object;
    struct ref ref;
};
/* A VDI that is made. */
struct import_disk {
    const struct ova_object *object;
    int64_t size;
    char uuid[UUID_TEXT_SIZE];
    bool announced, filled;
    struct disk_info info; /* when filled */
    struct ref ref;        /* its row, once made */
};

struct import {
    struct transfer *t;
    bool metadata, restore, force, dry_run;
    const char *sr_text;     /* reference or uuid of the SR that is asked for; NULL: the pool's default */
    struct snapshot *snap;   /* of the begin */
    const struct sr_row *sr; /* of `snap`: where disks go */
    struct storage_agent at; /* that sees it */
    struct xva_reader *reader;
    struct xva_error xva_error;
    struct ova ova;
    struct import_vm *vms;
    size_t vm_count;
    struct import_link *links;
    size_t link_count;
    struct import_disk *disks;
    size_t disk_count;
    json_t *known;        /* what the plan has seen: see import_plan.c */
    struct ref *networks; /* made for this import */
    size_t network_count;
    int64_t total, done; /* bytes of the disks */
};

/* import.c */
struct import_wish {
    struct ref sr; /* for disks; not of metadata */
    bool metadata, restore, force;
};
/* Imports what `t`, which no request carries, pulls: the same as PUT /import or /import_metadata. *vms: what
 * task.result names. */
int import_pulled(struct transfer *t, const struct import_wish *wish, const struct ref_set **vms,
                  struct api_err *err);

/* import_plan.c */
/* The SR that sr_text names, or the pool's default, and an agent that sees it. */
int import_find_sr(struct import *im, struct api_err *err);
/* Finds or refuses everything that ova.xml names. Changes nothing. */
int import_plan(struct import *im, struct api_err *err);
/* NULL: no disk whose data is wanted. */
struct import_disk *import_disk_find(struct import *im, const char *id);
/* What stands for an object of the archive; null: nothing. After import_begin_rows VMs, too, and after the
 * disks are recorded these. */
struct ref import_ref(const struct import *im, const char *id);
/* After links were added. */
void import_sort_links(struct import *im);
/* Checks what a record says and the keys that its owner may set. */
int import_admit(struct import *im, const struct ova_object *object, struct row *row, const char *const *more,
                 struct api_err *err);

/* import_rows.c */
int import_begin_rows(struct import *im, struct api_err *err);
int import_finish_rows(struct import *im, struct api_err *err);
/* After a failure of either. */
void import_undo_rows(struct import *im);
/* Removes what an import left that did not end before the server did. In the first transaction. */
void import_sweep(struct tx *tx);
