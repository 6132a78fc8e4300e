/* The filter language, against every class: the first byte chooses the class, the rest is the text. */
#include <gate/expr.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const struct class_desc *cls = &model_classes[data[0] % model_class_count];
    if (!cls->row_size)
        return 0;
    char *text = malloc(size);
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    struct api_err err = API_ERR_INIT;
    struct expr *expr = expr_parse(text, cls, &err);
    if (expr) {
        struct row *row = row_new(cls, (struct ref){1, 2});
        expr_matches(expr, row);
        row_unref(row);
    }
    expr_free(expr);
    api_err_done(&err);
    free(text);
    return 0;
}
