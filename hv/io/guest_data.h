/* The words that a guest says on its port org.corral.data.0, and the answers: one JSON object a line,
 * described in docs/guest-data.md. Pure. */
#pragma once
#include <base/buf.h>
#include <hv/domain.h>

#define GUEST_DATA_LINE (16 * 1024) /* a longer line is no request */

/* Answers one line (without its end) into `reply`, which is never left without an answer. True: *data (see
 * base/rc.h) has changed; nothing outside the limits of hv/domain.h ever gets into it. `version` is what the
 * guest is told to compare with; the caller lets it grow with each change. */
bool guest_data_answer(const struct str_map **data, int64_t version, const char *line, size_t len,
                       struct buf *reply);
/* The answer to that request when its change cannot be kept. */
void guest_data_not_kept(const char *line, size_t len, struct buf *reply);
/* The answer to a line that is too long. */
void guest_data_too_long(struct buf *reply);

/* Applies what domain_data_set asks. -1: BAD_ARGUMENT, *data is as before. */
int guest_data_change(const struct str_map **data, bool replace, const struct str_map *set,
                      const char *const *remove, size_t remove_count, struct hv_err *err);
