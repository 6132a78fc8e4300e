/* What one run of the engine carries, and the helpers that every command uses. A function that
 * returns int returns 0, or -1 with x->err set; the run then prints the error and ends with 1. */
#pragma once
#include "table.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/query.h>
#include <xe/engine.h>

struct xe_param {
    const char *name, *value; /* of the argument's copy */
    char *text;
};

/* How the result is to be shown and waited for: the words --json, --sort and so on. */
enum xe_format { XE_FORMAT_TEXT, XE_FORMAT_JSON, XE_FORMAT_CSV };
struct xe_view {
    enum xe_format format;
    const char *columns, *sort, *where; /* borrowed from the command line; NULL: not said */
    bool watch, async, wait;
    double wait_seconds; /* < 0: until the end */
};

/* From this place in `out` on, text looks like `style`. */
struct xe_span {
    size_t at;
    enum xe_style style;
};

struct xe_run_state {
    const struct xe_api *api;
    const struct xe_command *cmd;
    struct xe_param *params;
    size_t param_count;
    bool minimal;
    struct xe_view view;
    struct buf out;  /* stdout text, handed over at the end and before anything that waits */
    struct buf line; /* the one line of --minimal */
    bool line_started;
    struct xe_err err;
    json_t *objects; /* API class -> reference -> record, see objects.c */
    json_t *wanted;  /* API class -> {member: true}: what a list needs; NULL: everything */
    bool bulk;       /* a missing record is fetched with its whole class */
    json_t *items;   /* --json: what the command printed so far */
    char *csv_head;  /* --csv: the heading that was printed last */
    struct xe_span *spans;
    size_t span_count;
    uint16_t *order; /* --columns: indexes of fields as they were named */
    size_t order_count;
    bool detached;    /* --async: the task was started, nothing of the command is left to do */
    bool interrupted; /* the user stopped a task */
};

/* engine.c: frees what a run holds. */
void xe_run_done(struct xe_run_state *x);

/* args.c: the parameters of the command line. */
int xe_args_parse(struct xe_run_state *x, int argc, const char *const *argv, const char **command);
void xe_args_done(struct xe_run_state *x);
/* The value, or NULL. */
const char *xe_arg(const struct xe_run_state *x, const char *name);
int xe_arg_required(struct xe_run_state *x, const char *name, const char **out);
/* Absent: *out untouched. */
int xe_arg_bool(struct xe_run_state *x, const char *name, bool *out);
int xe_arg_bytes(struct xe_run_state *x, const char *name, int64_t *out);
/* Of "name:key=value" (or the old "name-key=value"): the key, or NULL when it is another parameter. */
const char *xe_param_key(const struct xe_param *param, const char *name);
/* The pairs of a map parameter as an object (the caller's); empty when there are none. */
json_t *xe_arg_map(const struct xe_run_state *x, const char *name);
bool xe_param_standard(const char *name);
bool xe_parse_bool(const char *text, bool *out);
bool xe_parse_bytes(const char *text, int64_t *out);
/* The command's parameters: all required there, none unknown. */
int xe_args_check(struct xe_run_state *x);
void xe_usage_line(const struct xe_command *cmd, struct buf *out);
const struct xe_command *xe_command_find(const char *name);
/* The command name closest to `name`, or NULL when none is close. */
const char *xe_command_nearest(const char *name);
/* The name of the class's field that this was perhaps meant to be, or NULL. */
const char *xe_field_nearest(const struct xe_class *cls, const char *name);
/* Of `count` names the closest, or NULL. */
const char *xe_nearest(const char *name, const char *const *names, size_t count);
bool xe_command_built(const struct xe_command *cmd);
const struct xe_class *xe_class_find(const char *name);
const struct xe_field *xe_field_find(const struct xe_class *cls, const char *name);

/* view.c: takes argv[*i] when it is a word of the view (and the value after it): 1, 0: it is none, -1. */
int xe_view_take(struct xe_run_state *x, int argc, const char *const *argv, int *i);
/* Whether the command can be shown and waited for as asked. */
int xe_view_check(struct xe_run_state *x);
/* The fields that --columns names, in x->order; nothing without it. */
int xe_view_columns(struct xe_run_state *x, const struct xe_class *cls);
/* One object of a list that will be shown. `keys`: what --sort sorts by (a NULL item: no value). */
struct xe_row {
    const char *ref; /* borrowed */
    json_t *record;  /* borrowed */
    char **keys;
};
struct xe_rows {
    struct xe_row *items;
    size_t count, key_count;
};
void xe_rows_done(struct xe_rows *rows);
#define AUTO_ROWS __attribute__((cleanup(xe_rows_done)))
/* Puts them in the order of --sort. */
int xe_view_sort(struct xe_run_state *x, const struct xe_class *cls, struct xe_rows *rows);
/* --where as a query (the caller's); NULL without it. `any`: a record that shows the class's members, or
 * NULL. */
int xe_view_where(struct xe_run_state *x, const struct xe_class *cls, const json_t *any, struct query **out);
int xe_view_fits(struct xe_run_state *x, const struct xe_class *cls, const struct query *query,
                 const char *ref, const json_t *record, bool *fits);
/* The whole of --json, once the command is done. */
void xe_view_end(struct xe_run_state *x);

/* progress.c: a line on stderr, on a terminal only, that shows how far something long is. */
struct xe_meter {
    struct xe_run_state *x;
    const char *label;
    int64_t start_ms, drawn_ms;
    bool drawn, quiet; /* quiet: nothing before a second has passed */
};
struct xe_meter xe_meter_init(struct xe_run_state *x, const char *label, bool quiet);
/* `total` 0: unknown. */
void xe_meter_bytes(struct xe_meter *m, uint64_t done, uint64_t total);
void xe_meter_fraction(struct xe_meter *m, double fraction);
/* The line goes away. */
void xe_meter_end(struct xe_meter *m);

/* errors.c */
int xe_fail(struct xe_run_state *x, enum xe_err_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int xe_unknown_field(struct xe_run_state *x, const struct xe_class *cls, const char *name);
void xe_print_failure(struct xe_run_state *x);
/* Prints an error's parameters to stdout, one a line, by name and readable. */
void xe_explain(struct xe_run_state *x, const char *code, const json_t *params);
/* One line of x->err for "operation failed on" (the caller's). */
char *xe_err_line(const struct xe_err *err);
bool xe_err_is(const struct xe_err *err, const char *code);

/* out.c: printing, with the rules of --minimal. */
void xe_out_flush(struct xe_run_state *x);
/* An item of a list: a line, or a member of the minimal line as it is. */
void xe_out_item(struct xe_run_state *x, const char *text);
/* A message: dropped by --minimal. */
void xe_out_message(struct xe_run_state *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
void xe_note(struct xe_run_state *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A block of "name tag: value" lines; --minimal keeps the first value. */
struct xe_cell {
    const char *name, *tag, *value;
};
/* Asks the user to type yes, unless force=true. What is about to happen was printed before. */
int xe_confirm(struct xe_run_state *x);
/* Prints the uuid of a new object; `ref` NULL: the server gave none. */
int xe_print_uuid(struct xe_run_state *x, const char *api_class, const char *ref);
void xe_out_block(struct xe_run_state *x, const struct xe_cell *cells, size_t count);
/* A block of an object's members, as they are. */
void xe_out_pairs(struct xe_run_state *x, const json_t *record);
/* The same in JSON: `value` is consumed. Only with --json. */
void xe_out_json(struct xe_run_state *x, json_t *value);
void xe_out_style(struct xe_run_state *x, enum xe_style style);

/* objects.c: calls, and the records of objects. */
/* `format` is jansson's json_pack format for the parameters, e.g. "[s]". *result may be NULL: dropped. */
int xe_call(struct xe_run_state *x, const char *method, json_t **result, const char *format, ...);
/* The reference text in *result (the caller's). */
int xe_call_string(struct xe_run_state *x, const char *method, char **result, const char *format, ...);
/* The reference of the object with this uuid, or with this name, or the only one whose uuid begins so (the
 * caller's). Several: an error that lists them. resolve.c */
int xe_ref_by_uuid(struct xe_run_state *x, const char *api_class, const char *uuid, char **ref);
/* By the beginning of a uuid (four digits or more) alone; *ref is NULL when there is none. Several: an error.
 */
int xe_ref_by_prefix(struct xe_run_state *x, const char *api_class, const char *prefix, char **ref);
/* Borrowed from the cache; NULL without an error when the object does not exist. */
int xe_record(struct xe_run_state *x, const char *api_class, const char *ref, const json_t **record);
/* All of a class: reference -> record, borrowed. */
int xe_records(struct xe_run_state *x, const char *api_class, const json_t **records);
/* Tells of each host what stands against the VM starting there; `why` NULL: nothing. */
int xe_hosts_for(struct xe_run_state *x, const char *vm,
                 void (*tell)(struct xe_run_state *x, const json_t *host, const char *why));
void xe_record_forget(struct xe_run_state *x, const char *api_class);
/* The one pool's and its coordinator's references, borrowed. */
int xe_pool(struct xe_run_state *x, const char **ref, const json_t **record);
int xe_coordinator(struct xe_run_state *x, const char **ref);
bool xe_ref_null(const char *ref);
/* The uuid of an object (borrowed), or "<not in database>". */
int xe_uuid_of(struct xe_run_state *x, const char *api_class, const char *ref, const char **uuid);

/* The same with ready parameters, which are consumed. */
int xe_call_params(struct xe_run_state *x, const char *method, json_t *params, json_t **result);

/* task.c: a call in a task that Ctrl-C cancels; *result as in a plain call. `params` is consumed. */
int xe_call_task(struct xe_run_state *x, const char *method, json_t *params, json_t **result);
/* True once after a call that --async left to the server; its result is the "failure" of having none. */
bool xe_detached(struct xe_run_state *x);
/* Waits for a task with progress (`label` NULL: the command's name); the task is destroyed. */
int xe_task_wait(struct xe_run_state *x, const char *task, const char *label, json_t **result);
/* The same, or with --async its uuid is all that is printed (see xe_detached). */
int xe_task_follow(struct xe_run_state *x, const char *task, json_t **result);
/* Async only when `async`. */
int xe_call_maybe_task(struct xe_run_state *x, bool async, const char *method, json_t *params,
                       json_t **result);

/* cmd_transfer.c: moves the file named by `filename` up or down (x->api's function) as a task of its own;
 * *result (NULL: dropped) as in a plain call. `route` is a path with a query. */
typedef int xe_transfer_fn(void *ctx, const char *filename, const char *path, xe_progress_fn *progress,
                           void *arg, struct xe_err *err);
int xe_transfer(struct xe_run_state *x, xe_transfer_fn *move, const char *label, const char *route,
                json_t **result);
/* The same with another file, and any route. */
int xe_transfer_file(struct xe_run_state *x, xe_transfer_fn *move, const char *label, const char *filename,
                     const char *route, json_t **result);
/* In parts and without a task, with the disk of this uuid: see upload_parts and download_parts in engine.h.
 */
int xe_upload_parts_of(struct xe_run_state *x, const char *filename, const char *uuid, const char *format,
                       bool anew);
int xe_download_parts_of(struct xe_run_state *x, const char *filename, const char *uuid, bool anew);

/* making.c: the steps of commands that make a whole VM from something else. */
/* An SR by uuid, name or beginning of a uuid; NULL: the pool's default one. *ref is the caller's. */
int xe_making_sr(struct xe_run_state *x, const char *given, char **ref);
/* The same for a network; NULL: the one that guests of all pools may use, or *ref stays NULL. */
int xe_making_network(struct xe_run_state *x, const char *given, char **ref);
int xe_making_blank(struct xe_run_state *x, const char *name, const char *sr, int64_t size, char **vdi);
/* A new disk with the content of a local file. *vdi is set as soon as there is something to undo. */
int xe_making_disk(struct xe_run_state *x, const char *name, const char *sr, int64_t size, const char *file,
                   const char *format, char **vdi);
struct xe_new_vbd {
    unsigned number;
    bool bootable, readonly, cdrom;
};
/* `vdi` NULL: an empty drive. */
int xe_making_vbd(struct xe_run_state *x, const char *vm, const char *vdi, const struct xe_new_vbd *how);
struct xe_new_vif {
    unsigned number;
    const char *mac; /* NULL: a fresh one */
    int mtu;
    int64_t kbps; /* 0: no limit */
};
int xe_making_vif(struct xe_run_state *x, const char *vm, const char *network, const struct xe_new_vif *how);
/* Takes back what was made (`vm` may be NULL); the error that x has stays. */
void xe_making_undo(struct xe_run_state *x, const char *vm, const char *const *vdis, size_t count);

/* cmd_guest.c: makes the VM that an OVF description (of this file) tells of, as vm-import. */
int xe_import_ova(struct xe_run_state *x, const char *filename, const char *description, size_t len);

/* cmd_ova.c: writes the VM to filename=. */
int xe_export_ova(struct xe_run_state *x, const char *ref);

/* cloud_init.c: what the parameters cloud-init-* say, as keys of other_config (the caller's; empty: nothing),
 * and setting them. */
int xe_cloud_init_read(struct xe_run_state *x, json_t **out);
int xe_cloud_init_set(struct xe_run_state *x, const char *vm, const json_t *map);

/* values.c: fields of records as text. */
struct xe_value {
    bool single; /* one text, not a set or map */
    size_t count;
    char **keys; /* maps */
    char **items;
};
void xe_value_done(struct xe_value *value);
#define AUTO_VALUE __attribute__((cleanup(xe_value_done)))
enum xe_value_mode {
    XE_VALUE_LISTED, /* expensive fields are not asked for */
    XE_VALUE_SHOWN,  /* asked for; a refusal is shown in place of the value */
    XE_VALUE_ASKED,  /* asked for; a refusal is an error */
};
int xe_field_value(struct xe_run_state *x, const struct xe_class *cls, const struct xe_field *f,
                   const char *ref, const json_t *record, enum xe_value_mode mode, struct xe_value *out);
/* A wire value as it is shown; `texts` NULL: as it is. Borrowed. */
const char *xe_shown(const struct xe_texts *texts, const char *wire);
/* The joined text (the caller's). */
char *xe_value_text(const struct xe_field *f, const struct xe_value *value);
/* The same as JSON: numbers, booleans, arrays, objects; null where nothing is known (the caller's). */
json_t *xe_value_json(const struct xe_field *f, const struct xe_value *value);
/* Notes in x->wanted what the field needs. */
void xe_field_want(struct xe_run_state *x, const struct xe_class *cls, const struct xe_field *f);

/* input.c: text to JSON of a type (the caller's); NULL with x->err. `what` names it in the error. */
json_t *xe_input(struct xe_run_state *x, const char *what, int type, const char *api_class,
                 const struct xe_texts *texts, const char *text);

/* filter.c: which objects are meant. */
struct xe_filter {
    const struct xe_field *field;
    const char *key; /* map key; NULL: the whole */
    bool contains, differs;
    const char *value;
};
struct xe_filters {
    struct xe_filter *items;
    size_t count;
};
void xe_filters_done(struct xe_filters *filters);
#define AUTO_FILTERS __attribute__((cleanup(xe_filters_done)))
/* Of every parameter that `skip` (NULL-ended lists) and the standard ones do not take. */
int xe_filters_parse(struct xe_run_state *x, const struct xe_class *cls, const char *const *const *skip,
                     struct xe_filters *out);
int xe_filters_match(struct xe_run_state *x, const struct xe_class *cls, const struct xe_filters *filters,
                     const char *ref, const json_t *record, bool *match);
void xe_filters_want(struct xe_run_state *x, const struct xe_class *cls, const struct xe_filters *filters);
/* The objects that a command's selector picks: references, the caller's to free with xe_refs_done.
 * One, unless --multiple. */
struct xe_refs {
    char **items;
    size_t count;
};
void xe_refs_done(struct xe_refs *refs);
#define AUTO_REFS __attribute__((cleanup(xe_refs_done)))
int xe_select(struct xe_run_state *x, const struct xe_command *cmd, struct xe_refs *out);
/* Runs `one` for each selected object; with several, failures are told and the rest go on. */
typedef int xe_one_fn(struct xe_run_state *x, const struct xe_command *cmd, const char *ref);
int xe_for_selected(struct xe_run_state *x, const struct xe_command *cmd, xe_one_fn *one);

/* The generated families, and commands that are one call. */
int xe_run_list(struct xe_run_state *x, const struct xe_command *cmd);
int xe_run_param(struct xe_run_state *x, const struct xe_command *cmd);
int xe_run_call(struct xe_run_state *x, const struct xe_command *cmd);
/* cmd_transfer.c: a command that moves one file between here and a path of the server. */
int xe_run_move(struct xe_run_state *x, const struct xe_command *cmd);
/* Prints records of a class by a params= text (NULL: these default names), as lists do. */
int xe_list_print(struct xe_run_state *x, const struct xe_class *cls, const char *ref, const char *params,
                  const char *const *defaults);
/* One flag a field, from a params= text (NULL: `defaults`, or the class's own). The caller frees. */
bool *xe_columns(const struct xe_class *cls, const char *params, const char *const *defaults);
int xe_print_record(struct xe_run_state *x, const struct xe_class *cls, const bool *shown, const char *ref,
                    const json_t *record, enum xe_value_mode mode);
void xe_help(struct xe_run_state *x, int argc, const char *const *argv);

static inline const char *xe_str(const json_t *record, const char *member)
{
    const char *s = json_string_value(json_object_get(record, member));
    return s ? s : "";
}
static inline bool xe_true(const json_t *record, const char *member)
{
    return json_is_true(json_object_get(record, member));
}
