/* ova.xml: the description of VMs and what belongs to them, as one XML-RPC value: {version: {...}, objects:
 * [{class, id: "Ref:N", snapshot: record}]}, where references in records are such ids. Pure; any thread. */
#pragma once
#include <base/buf.h>
#include <jansson.h>
#include <model/error.h>
#include <model/rows.h>

/* ---- reading ---- */
struct ova_object {
    const char *id;
    const struct class_desc *cls; /* NULL: a class that is not known here */
    json_t *record;               /* an object; borrowed */
};
struct ova {
    json_t *document;
    struct ova_object *objects; /* in the order of the text */
    size_t count;
    const struct ova_object **by_id;
};
#define OVA_INIT ((struct ova){0})
/* IMPORT_ERROR with a sentence when it is no such text, or names one id twice; IMPORT_INCOMPATIBLE_VERSION
 * when a later version wrote it. */
int ova_parse(const char *text, size_t len, struct ova *out, struct api_err *err);
void ova_done(struct ova *ova);
#define AUTO_OVA __attribute__((cleanup(ova_done)))
/* NULL: there is none. */
const struct ova_object *ova_find(const struct ova *ova, const char *id);
/* Text of a record's member; "" when it is absent or no text. */
const char *ova_text(const struct ova_object *object, const char *field);
bool ova_bool(const struct ova_object *object, const char *field);
/* Fills a new row with what a record says of the fields that a constructor takes, and those named in `more`
 * (ended by NULL; NULL: none); references are left alone. IMPORT_ERROR names the first field that is not of
 * its type. */
int ova_fill(const struct ova_object *object, struct row *row, const char *const *more, struct api_err *err);

/* ---- writing ---- */
struct ova_list {
    struct ova_item {
        const struct row *row; /* counted */
        size_t number;
        const char *contents; /* an rc string; NULL: none */
    } * items;
    size_t count;
    bool sealed; /* by reference, without doubles */
};
#define OVA_LIST_INIT ((struct ova_list){0})
void ova_list_done(struct ova_list *list);
#define AUTO_OVA_LIST __attribute__((cleanup(ova_list_done)))
/* Takes a count. The n-th row added gets the id "Ref:n", counted from 0; adding one again changes nothing. */
void ova_list_add(struct ova_list *list, const struct row *row);
/* The same with a further member `contents` of the record: text that is no field of the row (of a VTPM). */
void ova_list_add_contents(struct ova_list *list, const struct row *row, const char *contents);
/* Has a row of this reference been added. After the first question none may be added any more. */
bool ova_list_find(struct ova_list *list, struct ref ref, size_t *number);
/* `software`: of the host, for the version. References to rows that are not in the list become null. */
void ova_write(struct ova_list *list, const struct str_map *software, const char *hostname, struct buf *out);
