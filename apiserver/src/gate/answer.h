/* Answers that are put together from many values (lists of records, events), written in the form that the
 * call's codec sends: JSON text, or the inside of an XML-RPC answer. Not thread-safe.
 *
 *     struct answer a = answer_begin(call->form);
 *     answer_open(&a, ANSWER_MAP);
 *     answer_key(&a, "token");
 *     answer_text(&a, token);
 *     answer_close(&a);
 *     answer_give(&a, call);
 */
#pragma once
#include "../server.h"
#include <base/buf.h>

#define ANSWER_DEPTH_MAX 8

enum answer_part { ANSWER_LIST, ANSWER_MAP };

/* Records of a long answer that are not copied into it but sent from their rows: each stands before byte `at`
 * of the rest. */
struct answer_pieces {
    struct {
        size_t at;
        const struct row *row; /* counted */
    } * items;
    size_t count, capacity;
    size_t bytes; /* of the records */
};
void answer_pieces_free(struct answer_pieces *pieces);

struct answer {
    enum answer_form form;
    struct buf out;
    struct answer_pieces *pieces; /* NULL: all is copied */
    unsigned depth;
    struct {
        enum answer_part part;
        bool more; /* something stands in it */
    } level[ANSWER_DEPTH_MAX];
};

struct answer answer_begin(enum answer_form form);
/* Records are not copied from here on. Only for a call that says so (pieces_ok). */
void answer_in_pieces(struct answer *a);

/* Lists and maps (objects, records). In a map each value follows an answer_key. */
void answer_open(struct answer *a, enum answer_part part);
void answer_close(struct answer *a);
void answer_key(struct answer *a, const char *name);

void answer_text(struct answer *a, const char *text);
void answer_ref(struct answer *a, struct ref ref);
/* The only integers that XML-RPC answers of this API tag (valid_ref_counts). */
void answer_i4(struct answer *a, int64_t value);
void answer_cell(struct answer *a, const struct type *type, const union cell *cell);
/* The row's public record, from its fragment. */
void answer_record(struct answer *a, const struct row *row);
/* Makes it the call's result. Nothing may be open; the answer is empty afterwards. */
void answer_give(struct answer *a, struct call *call);
