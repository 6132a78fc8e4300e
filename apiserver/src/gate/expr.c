/* A recursive-descent parser to a tree, bounded in depth and size.
 *   expr  := term { ("and" | "or") term }          same precedence, from left to right
 *   term  := "not" term | "true" | "false" | "(" expr ")" | value "=" value
 *   value := '"' characters '"' | field '"' name '"' */
#include "expr.h"

#include <base/buf.h>
#include <base/mem.h>
#include <ctype.h>
#include <model/errors.h>
#include <stdio.h>

#define MAX_DEPTH 64
#define MAX_TEXT 65536

enum kind { EXPR_TRUE, EXPR_FALSE, EXPR_NOT, EXPR_AND, EXPR_OR, EXPR_EQUAL };
enum operand_kind { OPERAND_LITERAL, OPERAND_FIELD, OPERAND_REF };

struct operand {
    enum operand_kind kind;
    char *literal;
    const struct field_desc *field;
};

struct expr {
    enum kind kind;
    struct expr *left, *right;
    struct operand a, b;
};

struct parser {
    const char *at, *start;
    const struct class_desc *cls;
    struct api_err *err;
    int depth;
};

void expr_free(struct expr *e)
{
    if (!e)
        return;
    expr_free(e->left);
    expr_free(e->right);
    free(e->a.literal);
    free(e->b.literal);
    free(e);
}

static struct expr *expr_new(enum kind kind, struct expr *left, struct expr *right)
{
    struct expr *e = xcalloc(1, sizeof(*e));
    e->kind = kind;
    e->left = left;
    e->right = right;
    return e;
}

static void *refuse(struct parser *p, const char *wanted)
{
    char text[192];
    snprintf(text, sizeof(text), "expected %s at character %td", wanted, p->at - p->start + 1);
    err_invalid_value(p->err, "expr", text);
    return NULL;
}

static void skip_space(struct parser *p)
{
    while (isspace((unsigned char)*p->at))
        p->at++;
}

/* Takes a keyword that is not the beginning of a longer word. */
static bool take_word(struct parser *p, const char *word)
{
    size_t len = strlen(word);
    skip_space(p);
    if (strncmp(p->at, word, len) != 0 || isalnum((unsigned char)p->at[len]) || p->at[len] == '_')
        return false;
    p->at += len;
    return true;
}

static bool take_char(struct parser *p, char c)
{
    skip_space(p);
    if (*p->at != c)
        return false;
    p->at++;
    return true;
}

static char *parse_quoted(struct parser *p)
{
    if (!take_char(p, '"'))
        return refuse(p, "a text in double quotes");
    const char *end = strchr(p->at, '"');
    if (!end)
        return refuse(p, "a closing double quote");
    char *text = xstrndup(p->at, (size_t)(end - p->at));
    p->at = end + 1;
    return text;
}

static const struct field_desc *field_by_db_name(const struct class_desc *cls, const char *name)
{
    for (size_t i = 0; i < cls->field_count; i++)
        if ((streq(cls->fields[i].db_name, name) || streq(cls->fields[i].name, name)) &&
            !(cls->fields[i].flags & (FIELD_INTERNAL | FIELD_SECRET)))
            return &cls->fields[i];
    return NULL;
}

static bool parse_operand(struct parser *p, struct operand *out)
{
    bool field = take_word(p, "field");
    out->literal = parse_quoted(p);
    if (!out->literal)
        return false;
    out->kind = OPERAND_LITERAL;
    if (!field)
        return true;
    out->kind = OPERAND_REF;
    if (streq(out->literal, "_ref"))
        return true;
    out->kind = OPERAND_FIELD;
    out->field = field_by_db_name(p->cls, out->literal);
    if (out->field)
        return true;
    char wanted[128];
    snprintf(wanted, sizeof(wanted), "a field of %s", p->cls->name);
    refuse(p, wanted);
    return false;
}

static struct expr *parse_expr(struct parser *p);

static struct expr *parse_equal(struct parser *p)
{
    struct expr *e = expr_new(EXPR_EQUAL, NULL, NULL);
    if (!parse_operand(p, &e->a))
        goto fail;
    if (!take_char(p, '=')) {
        refuse(p, "=");
        goto fail;
    }
    if (!parse_operand(p, &e->b))
        goto fail;
    return e;
fail:
    expr_free(e);
    return NULL;
}

static struct expr *parse_term(struct parser *p)
{
    if (++p->depth > MAX_DEPTH)
        return refuse(p, "less nesting");
    struct expr *e;
    if (take_word(p, "not")) {
        struct expr *inner = parse_term(p);
        e = inner ? expr_new(EXPR_NOT, inner, NULL) : NULL;
    } else if (take_word(p, "true")) {
        e = expr_new(EXPR_TRUE, NULL, NULL);
    } else if (take_word(p, "false")) {
        e = expr_new(EXPR_FALSE, NULL, NULL);
    } else if (take_char(p, '(')) {
        e = parse_expr(p);
        if (e && !take_char(p, ')')) {
            expr_free(e);
            e = refuse(p, ")");
        }
    } else {
        e = parse_equal(p);
    }
    p->depth--;
    return e;
}

static struct expr *parse_expr(struct parser *p)
{
    struct expr *left = parse_term(p);
    while (left) {
        enum kind kind;
        if (take_word(p, "and"))
            kind = EXPR_AND;
        else if (take_word(p, "or"))
            kind = EXPR_OR;
        else
            break;
        struct expr *right = parse_term(p);
        if (!right) {
            expr_free(left);
            return NULL;
        }
        left = expr_new(kind, left, right);
    }
    return left;
}

struct expr *expr_parse(const char *text, const struct class_desc *cls, struct api_err *err)
{
    struct parser p = {.at = text, .start = text, .cls = cls, .err = err};
    if (strlen(text) > MAX_TEXT)
        return refuse(&p, "at most 65,536 characters");
    struct expr *e = parse_expr(&p);
    skip_space(&p);
    if (e && *p.at) {
        expr_free(e);
        return refuse(&p, "and, or, or the end");
    }
    return e;
}

static void operand_text(const struct operand *o, const struct row *row, struct buf *out)
{
    char text[REF_TEXT_SIZE];
    switch (o->kind) {
    case OPERAND_LITERAL:
        buf_add_str(out, o->literal);
        break;
    case OPERAND_REF:
        buf_add_str(out, ref_format(row->ref, text));
        break;
    case OPERAND_FIELD:
        cell_write_db(o->field->type, row_cell(row, o->field), out);
        break;
    }
}

static bool equal(const struct expr *e, const struct row *row)
{
    AUTO_BUF struct buf a = BUF_INIT, b = BUF_INIT;
    operand_text(&e->a, row, &a);
    operand_text(&e->b, row, &b);
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool expr_matches(const struct expr *e, const struct row *row)
{
    switch (e->kind) {
    case EXPR_TRUE:
        return true;
    case EXPR_FALSE:
        return false;
    case EXPR_NOT:
        return !expr_matches(e->left, row);
    case EXPR_AND:
        return expr_matches(e->left, row) && expr_matches(e->right, row);
    case EXPR_OR:
        return expr_matches(e->left, row) || expr_matches(e->right, row);
    case EXPR_EQUAL:
        return equal(e, row);
    }
    return false;
}
