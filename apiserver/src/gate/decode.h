/* JSON values to typed cells, checked against the model. Pure; any thread. */
#pragma once
#include <jansson.h>
#include <model/error.h>
#include <model/method.h>

/* What the text forms of a codec allow. */
enum decode_mode {
    DECODE_STRICT,  /* numbers are numbers */
    DECODE_LENIENT, /* they may be text too: XML-RPC has no other form, and clients that speak both send it */
};

/* Fills *out (uninitialised before; the caller's afterwards, see cell_done). -1: *err is
 * INTERNAL_ERROR with what was expected, or HANDLE_INVALID for text that is no reference. */
int decode_cell(const struct type *type, const json_t *json, enum decode_mode mode, union cell *out,
                struct api_err *err);

/* Decodes positional parameters into a fresh arguments struct of `method`. The count must have been
 * checked. *args is freed with args_free. Sets of strings for handlers are lists: in the order given and with
 * doubles (see str_list_new). */
int decode_args(const struct method_desc *method, const json_t *params, enum decode_mode mode, void **args,
                struct api_err *err);
void args_free(const struct method_desc *method, void *args);

/* A row of `cls` from a constructor's record: RW and StaticRO fields, defaults for those left out;
 * members that the class does not have are ignored, for clients send whole records. */
int decode_record(const struct class_desc *cls, const json_t *record, enum decode_mode mode, struct row **row,
                  struct api_err *err);
