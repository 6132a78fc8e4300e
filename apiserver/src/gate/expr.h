/* The filter language of get_all_where and get_all_records_where: comparisons of fields and literals by their
 * database text, joined by and, or, not. Pure; any thread. */
#pragma once
#include <model/error.h>
#include <model/model.h>

struct expr;
/* NULL: *err is INVALID_VALUE ["expr", ...]. Free with expr_free. */
struct expr *expr_parse(const char *text, const struct class_desc *cls, struct api_err *err);
bool expr_matches(const struct expr *expr, const struct row *row);
void expr_free(struct expr *expr);
