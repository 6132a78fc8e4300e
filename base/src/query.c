/* A recursive-descent parser into a small tree, and its evaluation. */
#include <base/query.h>

#include <base/buf.h>
#include <base/mem.h>
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEPTH_MAX 64

enum node_kind { NODE_AND, NODE_OR, NODE_NOT, NODE_COMPARE };
enum op { OP_EQ, OP_NE, OP_LE, OP_LT, OP_GE, OP_GT, OP_GLOB };

struct query {
    enum node_kind kind;
    struct query *left, *right; /* NOT: left alone */
    enum op op;
    char *field, *key; /* key NULL: none was given */
    char *value;       /* NULL: null */
};

struct parser {
    const char *start, *at;
    query_known_fn *known;
    void *arg;
    struct query_error *error;
    unsigned depth;
};

void query_free(struct query *query)
{
    if (!query)
        return;
    query_free(query->left);
    query_free(query->right);
    free(query->field);
    free(query->key);
    free(query->value);
    free(query);
}

void query_free_cleanup(struct query **query)
{
    query_free(*query);
}

static struct query *refuse(struct parser *p, const char *expected)
{
    snprintf(p->error->text, sizeof(p->error->text), "Expected %s at character %zu of the filter.", expected,
             (size_t)(p->at - p->start) + 1);
    return NULL;
}

static void skip_space(struct parser *p)
{
    while (isspace((unsigned char)*p->at))
        p->at++;
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static bool take_keyword(struct parser *p, const char *word)
{
    size_t len = strlen(word);
    skip_space(p);
    if (strncasecmp(p->at, word, len) != 0 || is_name_char(p->at[len]))
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

/* Behind the opening quote. NULL: it is not closed. */
static char *take_quoted(struct parser *p)
{
    struct buf text = BUF_INIT;
    buf_add(&text, "", 0);
    for (; *p->at && *p->at != '"'; p->at++) {
        if (*p->at == '\\' && (p->at[1] == '"' || p->at[1] == '\\'))
            p->at++;
        buf_add_char(&text, *p->at);
    }
    if (*p->at != '"') {
        buf_done(&text);
        refuse(p, "a closing double quote");
        return NULL;
    }
    p->at++;
    return buf_take(&text);
}

static char *take_name(struct parser *p)
{
    const char *from = p->at;
    while (is_name_char(*p->at))
        p->at++;
    return p->at > from ? xstrndup(from, (size_t)(p->at - from)) : NULL;
}

static bool take_field(struct parser *p, struct query *q)
{
    skip_space(p);
    q->field = take_name(p);
    if (!q->field) {
        refuse(p, "the name of a field");
        return false;
    }
    enum query_field known = p->known(p->arg, q->field);
    if (known == QUERY_FIELD_NONE) {
        snprintf(p->error->text, sizeof(p->error->text), "There is no field %.80s to filter by.", q->field);
        return false;
    }
    bool has_key = *p->at == '.';
    if (has_key) {
        p->at++;
        bool quoted = *p->at == '"';
        p->at += quoted;
        q->key = quoted ? take_quoted(p) : take_name(p);
        if (!q->key) {
            if (!quoted)
                refuse(p, "a key of the map");
            return false;
        }
    }
    if (has_key != (known == QUERY_FIELD_MAP)) {
        snprintf(p->error->text, sizeof(p->error->text),
                 has_key ? "Field %.80s is no map: it has no keys."
                         : "Field %.80s is a map: say which key, as in %.80s.key.",
                 q->field, q->field);
        return false;
    }
    return true;
}

static bool take_op(struct parser *p, enum op *out)
{
    static const struct {
        const char *text;
        enum op op;
    } ops[] = {{"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"=", OP_EQ},
               {"<", OP_LT},  {">", OP_GT},  {"~", OP_GLOB}};
    skip_space(p);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (strncmp(p->at, ops[i].text, strlen(ops[i].text)) == 0) {
            p->at += strlen(ops[i].text);
            *out = ops[i].op;
            return true;
        }
    refuse(p, "one of = != < <= > >= ~");
    return false;
}

static bool is_word_char(char c)
{
    return c && !isspace((unsigned char)c) && !strchr("()\"=<>!~", c);
}

static bool take_value(struct parser *p, struct query *q)
{
    skip_space(p);
    if (*p->at == '"') {
        p->at++;
        q->value = take_quoted(p);
        return q->value != NULL;
    }
    const char *from = p->at;
    while (is_word_char(*p->at))
        p->at++;
    if (p->at == from) {
        refuse(p, "a value");
        return false;
    }
    size_t len = (size_t)(p->at - from);
    if (len != 4 || strncasecmp(from, "null", 4) != 0)
        q->value = xstrndup(from, len);
    return true;
}

static struct query *parse_or(struct parser *p);

static struct query *parse_compare(struct parser *p)
{
    struct query *q = xcalloc(1, sizeof(*q));
    q->kind = NODE_COMPARE;
    if (take_field(p, q) && take_op(p, &q->op) && take_value(p, q))
        return q;
    query_free(q);
    return NULL;
}

static struct query *join(enum node_kind kind, struct query *left, struct query *right)
{
    struct query *q = xcalloc(1, sizeof(*q));
    *q = (struct query){.kind = kind, .left = left, .right = right};
    return q;
}

static struct query *parse_term(struct parser *p)
{
    struct query *q;
    if (++p->depth > DEPTH_MAX)
        return refuse(p, "less nesting");
    if (take_keyword(p, "not")) {
        q = parse_term(p);
        q = q ? join(NODE_NOT, q, NULL) : NULL;
    } else if (take_char(p, '(')) {
        q = parse_or(p);
        if (q && !take_char(p, ')')) {
            query_free(q);
            q = refuse(p, "a closing parenthesis, and, or or");
        }
    } else {
        q = parse_compare(p);
    }
    p->depth--;
    return q;
}

/* A chain of `word` between parts. */
static struct query *parse_chain(struct parser *p, const char *word, enum node_kind kind,
                                 struct query *(*part)(struct parser *))
{
    struct query *left = part(p);
    while (left && take_keyword(p, word)) {
        struct query *right = part(p);
        if (!right) {
            query_free(left);
            return NULL;
        }
        left = join(kind, left, right);
    }
    return left;
}

static struct query *parse_and(struct parser *p)
{
    return parse_chain(p, "and", NODE_AND, parse_term);
}

static struct query *parse_or(struct parser *p)
{
    return parse_chain(p, "or", NODE_OR, parse_and);
}

struct query *query_parse(const char *text, query_known_fn *known, void *arg, struct query_error *error)
{
    struct parser p = {.start = text, .at = text, .known = known, .arg = arg, .error = error};
    if (strlen(text) > QUERY_TEXT_MAX)
        return refuse(&p, "at most 16,384 characters");
    struct query *q = parse_or(&p);
    skip_space(&p);
    if (q && *p.at) {
        query_free(q);
        return refuse(&p, "and, or, or the end");
    }
    return q;
}

/* ---- evaluation ---- */

static bool is_number(const char *text, double *out)
{
    char *end;
    if (!*text || isspace((unsigned char)*text) || isalpha((unsigned char)*text))
        return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

static bool is_integer(const char *text, long long *out)
{
    char *end;
    if (!*text || isspace((unsigned char)*text))
        return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return *end == '\0' && errno == 0;
}

int query_compare(const char *a, const char *b)
{
    long long i, j;
    double x, y;
    if (!a || !b)
        return (a != NULL) - (b != NULL);
    if (is_integer(a, &i) && is_integer(b, &j))
        return i < j ? -1 : i > j;
    if (is_number(a, &x) && is_number(b, &y))
        return x < y ? -1 : x > y;
    return strcmp(a, b);
}

static bool fits(const struct query *q, const char *value)
{
    if (q->op == OP_GLOB)
        return value && q->value && fnmatch(q->value, value, FNM_CASEFOLD) == 0;
    int order = query_compare(value, q->value);
    switch (q->op) {
    case OP_EQ:
    case OP_NE: /* turned round by the caller */
        return order == 0;
    case OP_LT:
        return order < 0;
    case OP_LE:
        return order <= 0;
    case OP_GT:
        return order > 0;
    case OP_GE:
        return order >= 0;
    case OP_GLOB:
        break;
    }
    return false;
}

struct search {
    struct query_sink sink; /* first */
    const struct query *query;
    bool found;
};

static bool look(struct query_sink *sink, const char *value)
{
    struct search *s = (struct search *)sink;
    s->found = fits(s->query, value);
    return !s->found;
}

bool query_matches(const struct query *q, query_values_fn *values, void *arg)
{
    struct search s = {.sink = {look}, .query = q};
    switch (q->kind) {
    case NODE_AND:
        return query_matches(q->left, values, arg) && query_matches(q->right, values, arg);
    case NODE_OR:
        return query_matches(q->left, values, arg) || query_matches(q->right, values, arg);
    case NODE_NOT:
        return !query_matches(q->left, values, arg);
    case NODE_COMPARE:
        values(arg, q->field, q->key, &s.sink);
        return s.found != (q->op == OP_NE);
    }
    return false;
}
