/* Look-ups in the generated tables, and the nearest name to a misspelt one. */
#include "run.h"

bool xe_command_built(const struct xe_command *cmd)
{
    return cmd->generated || cmd->handler || cmd->call || cmd->move;
}

static int by_name(const void *name, const void *row)
{
    return strcmp(name, ((const struct xe_command *)row)->name);
}

const struct xe_command *xe_command_find(const char *name)
{
    return bsearch(name, xe_commands, xe_command_count, sizeof *xe_commands, by_name);
}

const struct xe_class *xe_class_find(const char *name)
{
    for (size_t i = 0; i < xe_class_count; i++)
        if (streq(xe_classes[i]->name, name))
            return xe_classes[i];
    return NULL;
}

const struct xe_field *xe_field_find(const struct xe_class *cls, const char *name)
{
    for (size_t i = 0; i < cls->field_count; i++)
        if (streq(cls->fields[i].name, name))
            return &cls->fields[i];
    return NULL;
}

/* Insertions, deletions, replacements and swaps of neighbours; names longer than the row never match. */
static unsigned distance(const char *a, const char *b)
{
    enum { MAX = 80 };
    size_t la = strlen(a), lb = strlen(b);
    if (la >= MAX || lb >= MAX)
        return MAX;
    unsigned rows[3][MAX + 1], *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= lb; j++)
        last[j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        unsigned *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[lb];
}

static bool closer(const char *name, const char *candidate, unsigned *best)
{
    unsigned d = distance(name, candidate), limit = (unsigned)strlen(name) / 3 + 1;
    if (d > limit || d >= *best)
        return false;
    *best = d;
    return true;
}

const char *xe_nearest(const char *name, const char *const *names, size_t count)
{
    const char *found = NULL;
    unsigned best = ~0U;
    for (size_t i = 0; i < count; i++)
        if (closer(name, names[i], &best))
            found = names[i];
    return found;
}

const char *xe_command_nearest(const char *name)
{
    const char *found = NULL;
    unsigned best = ~0U;
    for (size_t i = 0; i < xe_command_count; i++)
        if (!(xe_commands[i].flags & XE_CMD_HIDDEN) && closer(name, xe_commands[i].name, &best))
            found = xe_commands[i].name;
    return found;
}

bool xe_command_info(size_t index, struct xe_command_info *out)
{
    if (index >= xe_command_count)
        return false;
    const struct xe_command *c = &xe_commands[index];
    *out = (struct xe_command_info){
        c->name, c->help, c->example, c->flags & XE_STANDARD, c->flags & XE_CMD_HIDDEN, xe_command_built(c)};
    return true;
}
