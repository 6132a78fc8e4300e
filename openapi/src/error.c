/* Error values: who owns their parameters, and the look-up by code. */
#include <assert.h>
#include <base/mem.h>
#include <base/rc.h>
#include <model/error.h>

void api_err_done(struct api_err *err)
{
    for (size_t i = 0; i < err->param_count; i++)
        str_unref(err->params[i]);
    *err = API_ERR_INIT;
}

int api_err_set_code(struct api_err *err, const char *code, const char *const *params, size_t count)
{
    assert(count <= API_ERR_MAX_PARAMS);
    if (err->quiet)
        return -1;
    struct api_err fresh = {.code = code, .param_count = (uint8_t)count};
    for (size_t i = 0; i < count; i++)
        fresh.params[i] = str_new(params[i]);
    api_err_done(err); /* last: the parameters may be the old ones */
    *err = fresh;
    return -1;
}

int api_err_set(struct api_err *err, const struct error_desc *desc, const char *const *params, size_t count)
{
    api_err_set_code(err, desc->code, params, count);
    if (!err->quiet)
        err->desc = desc;
    return -1;
}

void api_err_copy(struct api_err *to, const struct api_err *from)
{
    *to = *from;
    for (size_t i = 0; i < from->param_count; i++)
        str_ref(from->params[i]);
}

const struct error_desc *error_find(const char *code)
{
    size_t low = 0, high = model_error_count; /* the generator keeps them in order of their codes */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(code, model_errors[middle].code);
        if (order == 0)
            return &model_errors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
