/* An XML document as a tree of bounded size. Nothing outside it is ever asked for: no document type, no
 * entities. */
#include "tree.h"
#include "guests.h"
#include <base/buf.h>
#include <base/mem.h>
#include <ctype.h>
#include <expat.h>

enum { DEPTH_MAX = 32, NODES_MAX = 20000, TEXT_MAX = 65536 };

struct tree {
    XML_Parser parser;
    struct node *root, *open;
    struct buf text;
    size_t nodes, depth;
    char **problem;
};

void tree_free(struct node *n)
{
    while (n) {
        struct node *next = n->next;
        tree_free(n->first);
        for (char **a = n->attributes; a && *a; a++)
            free(*a);
        free(n->attributes);
        free(n->attribute_taken);
        free(n->name);
        free(n->text);
        free(n);
        n = next;
    }
}

static void stop(struct tree *t, const char *why)
{
    if (!*t->problem)
        guest_problem(t->problem, "line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(t->parser), why);
    XML_StopParser(t->parser, XML_FALSE);
}

/* What was read since the last tag belongs to the element that is open. */
static void keep_text(struct tree *t)
{
    struct node *n = t->open;
    const char *text = t->text.len ? t->text.data : "";
    size_t len;
    while (isspace((unsigned char)*text))
        text++;
    for (len = strlen(text); len && isspace((unsigned char)text[len - 1]);)
        len--;
    if (n && len) {
        char *all = xasprintf("%s%s%.*s", n->text, *n->text ? " " : "", (int)len, text);
        free(n->text);
        n->text = all;
        if (strlen(all) > TEXT_MAX)
            stop(t, "a text is too long");
    }
    buf_clear(&t->text);
}

static void XMLCALL opened(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct tree *t = arg;
    struct node *n;
    size_t count = 0;
    if (++t->nodes > NODES_MAX || ++t->depth > DEPTH_MAX) {
        stop(t, "this is larger or deeper than any domain");
        return;
    }
    keep_text(t);
    n = xcalloc(1, sizeof(*n));
    n->name = xstrdup(name);
    n->text = xstrdup("");
    n->parent = t->open;
    while (attributes[count])
        count++;
    n->attributes = xcalloc(count + 1, sizeof(*n->attributes));
    n->attribute_taken = xcalloc(count / 2 + 1, sizeof(*n->attribute_taken));
    for (size_t i = 0; i < count; i++)
        n->attributes[i] = xstrdup(attributes[i]);
    if (!t->open)
        t->root = n;
    else if (t->open->last)
        t->open->last->next = n;
    else
        t->open->first = n;
    if (t->open)
        t->open->last = n;
    t->open = n;
}

static void XMLCALL closed(void *arg, const XML_Char *name)
{
    struct tree *t = arg;
    struct node *n = t->open;
    (void)name;
    if (!n)
        return;
    keep_text(t);
    t->open = n->parent;
    t->depth--;
}

static void XMLCALL characters(void *arg, const XML_Char *text, int len)
{
    struct tree *t = arg;
    if (t->text.len + (size_t)len > TEXT_MAX)
        stop(t, "a text is too long");
    else
        buf_add(&t->text, text, (size_t)len);
}

static void XMLCALL document_type(void *arg, const XML_Char *name, const XML_Char *system,
                                  const XML_Char *public, int internal)
{
    (void)name, (void)system, (void)public, (void)internal;
    stop(arg, "a document type is not accepted");
}

struct node *tree_parse(const char *text, size_t len, char **problem)
{
    struct tree t = {.parser = XML_ParserCreate(NULL), .text = BUF_INIT, .problem = problem};
    if (!t.parser)
        return guest_problem(problem, "there is no memory for it");
    XML_SetUserData(t.parser, &t);
    XML_SetElementHandler(t.parser, opened, closed);
    XML_SetCharacterDataHandler(t.parser, characters);
    XML_SetStartDoctypeDeclHandler(t.parser, document_type);
    bool good = len <= (1U << 30) && XML_Parse(t.parser, text, (int)len, 1) == XML_STATUS_OK;
    if (!good && !*problem)
        guest_problem(problem, "line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(t.parser),
                      XML_ErrorString(XML_GetErrorCode(t.parser)));
    XML_ParserFree(t.parser);
    buf_done(&t.text);
    if (good && !*problem)
        return t.root;
    tree_free(t.root);
    return NULL;
}

struct node *tree_child(const struct node *n, const char *name)
{
    for (struct node *c = n ? n->first : NULL; c; c = c->next)
        if (streq(c->name, name))
            return c;
    return NULL;
}

const char *tree_attribute(const struct node *n, const char *name)
{
    for (char **a = n ? n->attributes : NULL; a && *a; a += 2)
        if (streq(a[0], name))
            return a[1];
    return NULL;
}
