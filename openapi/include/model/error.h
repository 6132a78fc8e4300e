/* Errors of the API: a code and its parameters. The generated constructors of <model/errors.h> are
 * the only way to make one, so a missing parameter does not compile. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define API_ERR_MAX_PARAMS 8

struct error_desc {
    const char *code;
    const char *doc; /* for a person: what was wrong and what would be right */
    const char *const *params;
    uint8_t param_count;
    uint16_t status; /* of HTTP, in REST */
};

/* Zero-initialised: no error. The text of parameters is its own (rc strings). */
struct api_err {
    const struct error_desc *desc;
    const char *code; /* desc->code, except for codes that carry a number */
    uint8_t param_count;
    const char *params[API_ERR_MAX_PARAMS];
    bool quiet; /* it stays as it is, whatever is set: for who asks only whether */
};

#define API_ERR_INIT ((struct api_err){0})

extern const struct error_desc model_errors[];
extern const uint16_t model_error_count;

const struct error_desc *error_find(const char *code);

/* Sets *err (releasing what it held) and returns -1, so that a function can `return err_...`. */
int api_err_set(struct api_err *err, const struct error_desc *desc, const char *const *params, size_t count);
/* As above with a code that is not in the table (storage back ends number theirs). */
int api_err_set_code(struct api_err *err, const char *code, const char *const *params, size_t count);
void api_err_copy(struct api_err *to, const struct api_err *from);
void api_err_done(struct api_err *err);
#define AUTO_API_ERR __attribute__((cleanup(api_err_done)))
