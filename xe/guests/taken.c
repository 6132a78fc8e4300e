/* The marks in a tree of XML, and the notes about what has none. */
#include "taken.h"
#include <base/buf.h>
#include <base/mem.h>

enum { SHOWN = 200, SHOWN_IN_ALL = 16384 };

struct node *taken_child(struct node *n, const char *name)
{
    struct node *c = tree_child(n, name);
    if (c)
        c->taken = true;
    return c;
}

/* The place of an attribute among all; -1: none. */
static ssize_t place_of(const struct node *n, const char *name)
{
    for (size_t i = 0; n && n->attributes[2 * i]; i++)
        if (streq(n->attributes[2 * i], name))
            return (ssize_t)i;
    return -1;
}

const char *taken_attribute(struct node *n, const char *name)
{
    ssize_t i = place_of(n, name);
    if (i < 0)
        return NULL;
    n->attribute_taken[i] = true;
    return n->attributes[2 * i + 1];
}

bool taken_is(struct node *n, const char *name, const char *value)
{
    ssize_t i = place_of(n, name);
    if (i < 0 || !streq(n->attributes[2 * i + 1], value))
        return false;
    n->attribute_taken[i] = true;
    return true;
}

const char *taken_text(struct node *n)
{
    n->text_taken = true;
    return n->text;
}

/* ---- notes ---- */

char *taken_path(const struct node *n)
{
    if (!n->parent || !n->parent->parent)
        return xstrdup(n->name);
    AUTO_FREE char *above = taken_path(n->parent);
    return xasprintf("%s/%s", above, n->name);
}

static void show_text(struct buf *b, const char *text)
{
    size_t len = strlen(text), shown = len;
    if (len > SHOWN)
        for (shown = SHOWN; ((unsigned char)text[shown] & 0xc0) == 0x80;) /* no half characters */
            shown--;
    buf_add(b, text, shown);
    if (shown < len)
        buf_add_str(b, "...");
}

static void show_attribute(struct buf *b, const char *prefix, const struct node *n, size_t i)
{
    buf_printf(b, "%s%s%s=", b->len ? " " : "", prefix, n->attributes[2 * i]);
    show_text(b, strstr(n->attributes[2 * i], "passwd") ? "..." : n->attributes[2 * i + 1]);
}

static bool too_much(struct buf *b)
{
    if (b->len <= SHOWN_IN_ALL)
        return false;
    buf_add_str(b, " ...");
    return true;
}

/* `prefix`: the path from the noted element on, "" or with a slash at its end. False: it is too much. */
static bool show(struct buf *b, const char *prefix, const struct node *n)
{
    size_t len = strlen(prefix);
    for (size_t i = 0; n->attributes[2 * i]; i++) {
        if (too_much(b))
            return false;
        show_attribute(b, prefix, n, i);
    }
    if (*n->text || (len && !n->attributes[0] && !n->first)) {
        buf_printf(b, "%s%.*s%s", b->len ? " " : "", (int)(len ? len - 1 : 0), prefix,
                   len && *n->text ? "=" : "");
        show_text(b, n->text);
    }
    for (const struct node *c = n->first; c; c = c->next) {
        AUTO_FREE char *path = xasprintf("%s%s/", prefix, c->name);
        if (too_much(b) || !show(b, path, c))
            return false;
    }
    return true;
}

static void note(json_t *guest, const struct node *n, const struct buf *b, const char *why)
{
    AUTO_FREE char *path = taken_path(n);
    guest_note(guest, path, b->len ? b->data : "", why);
}

void tell(json_t *guest, struct node *n, const char *why)
{
    AUTO_BUF struct buf b = BUF_INIT;
    show(&b, "", n);
    note(guest, n, &b, why);
    n->told = true;
}

void tell_attribute(json_t *guest, struct node *n, const char *name, const char *why)
{
    AUTO_BUF struct buf b = BUF_INIT;
    ssize_t i = place_of(n, name);
    if (i < 0)
        return;
    show_attribute(&b, "", n, (size_t)i);
    note(guest, n, &b, why);
    n->attribute_taken[i] = true;
}

void tell_rest(json_t *guest, struct node *n, const char *why)
{
    AUTO_BUF struct buf b = BUF_INIT;
    if (n->told)
        return;
    if (!n->taken) {
        tell(guest, n, why);
        return;
    }
    for (size_t i = 0; n->attributes[2 * i]; i++)
        if (!n->attribute_taken[i])
            show_attribute(&b, "", n, i);
    if (*n->text && !n->text_taken) {
        buf_add_str(&b, b.len ? " " : "");
        show_text(&b, n->text);
    }
    if (b.len)
        note(guest, n, &b, why);
    for (struct node *c = n->first; c; c = c->next)
        tell_rest(guest, c, why);
}
