/* Menus of boot loaders (menu.h). */
#include "menu.h"
#include <base/buf.h>
#include <base/mem.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 256

static void entry_done(struct menu_entry *entry)
{
    free(entry->title);
    free(entry->id);
    free(entry->kernel);
    free(entry->ramdisks);
    free(entry->arguments);
}

void menu_done(struct menu *menu)
{
    for (size_t i = 0; i < menu->count; i++)
        entry_done(&menu->items[i]);
    free(menu->items);
    free(menu->chosen);
    *menu = MENU_INIT;
}

static void replace(char **text, char *moved)
{
    free(*text);
    *text = moved;
}

/* Moves the entry into the menu if it names a kernel. */
static bool keep(struct menu *menu, struct menu_entry *entry)
{
    bool good = entry->kernel && menu->count < MENU_ENTRIES_MAX;
    if (good) {
        char **texts[] = {&entry->title, &entry->id, &entry->ramdisks, &entry->arguments};
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            if (!*texts[i])
                *texts[i] = xstrdup("");
        menu->items = xreallocarray(menu->items, menu->count + 1, sizeof(*menu->items));
        menu->items[menu->count++] = *entry;
    } else {
        entry_done(entry);
    }
    *entry = (struct menu_entry){0};
    return good;
}

/* ---- lines and words ---- */

struct words {
    char *items[WORDS_MAX];
    bool quoted[WORDS_MAX];
    size_t count;
};

static void words_done(struct words *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->items[i]);
    words->count = 0;
}

/* One word as GRUB's shell reads it: quotes, backslashes. Moves *at behind it. */
static char *take_word(const char **at, bool *quoted)
{
    struct buf word = BUF_INIT;
    const char *p = *at;
    *quoted = false;
    buf_add_str(&word, "");
    for (; *p && *p != '\n' && !isspace((unsigned char)*p); p++) {
        if (*p == '\'' || *p == '"') {
            char quote = *p++;
            *quoted = true;
            for (; *p && *p != quote && *p != '\n'; p++) {
                if (quote == '"' && *p == '\\' && p[1] && p[1] != '\n')
                    p++;
                buf_add_char(&word, *p);
            }
            if (*p != quote)
                break;
        } else if (*p == '\\' && p[1] && p[1] != '\n') {
            buf_add_char(&word, *++p);
        } else {
            buf_add_char(&word, *p);
        }
    }
    *at = p;
    return buf_take(&word);
}

/* The words of the next line; moves *at to the line after it. False: the text is over. */
static bool take_line(const char **at, struct words *words)
{
    const char *p = *at;
    words_done(words);
    if (!*p)
        return false;
    while (*p && *p != '\n') {
        if (isspace((unsigned char)*p)) {
            p++;
        } else if (*p == '#' && words->count == 0) {
            p += strcspn(p, "\n");
        } else {
            bool quoted;
            char *word = take_word(&p, &quoted);
            if (words->count == WORDS_MAX) {
                free(word);
            } else {
                words->quoted[words->count] = quoted;
                words->items[words->count++] = word;
            }
        }
    }
    *at = *p ? p + 1 : p;
    return true;
}

static bool is(const struct words *words, size_t i, const char *text)
{
    return i < words->count && strcmp(words->items[i], text) == 0;
}

static char *join(const struct words *words, size_t from)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "");
    for (size_t i = from; i < words->count; i++) {
        if (i > from)
            buf_add_char(&text, ' ');
        buf_add_str(&text, words->items[i]);
    }
    return buf_take(&text);
}

/* Without the device of GRUB: "(hd0,1)/vmlinuz", "($root)/vmlinuz", "$relative/vmlinuz" -> "/vmlinuz". */
static char *plain_path(const char *path)
{
    const char *slash = strchr(path, '/');
    return (*path == '(' || *path == '$') && slash ? xstrdup(slash) : xstrdup(path);
}

static char *plain_paths(const struct words *words, size_t from)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "");
    for (size_t i = from; i < words->count; i++) {
        char *path AUTO_FREE = plain_path(words->items[i]);
        if (*path != '/')
            continue;
        if (text.len)
            buf_add_char(&text, ' ');
        buf_add_str(&text, path);
    }
    return buf_take(&text);
}

/* ---- GRUB ---- */

static bool one_of(const struct words *words, const char *const *names)
{
    for (; words->count && *names; names++)
        if (is(words, 0, *names))
            return true;
    return false;
}

static void grub_title(const struct words *words, struct menu_entry *entry)
{
    entry->title = xstrdup(words->count > 1 ? words->items[1] : "");
    for (size_t i = 2; i + 1 < words->count; i++)
        if (is(words, i, "--id") || is(words, i, "$menuentry_id_option"))
            replace(&entry->id, xstrdup(words->items[i + 1]));
}

static void grub_default(const struct words *words, struct menu *menu)
{
    const char *value =
        words->count > 1 && strncmp(words->items[1], "default=", 8) == 0 ? words->items[1] + 8 : NULL;
    if (value && strstr(value, "saved_entry"))
        menu->from_saved = true;
    else if (value && *value && !strchr(value, '$'))
        replace(&menu->chosen, xstrdup(value));
}

static bool opens_block(const struct words *words)
{
    return words->count && strcmp(words->items[words->count - 1], "{") == 0 &&
           !words->quoted[words->count - 1];
}

void menu_read_grub(const char *text, struct menu *menu)
{
    static const char *const kernels[] = {"linux", "linux16", "linuxefi", NULL};
    static const char *const ramdisks[] = {"initrd", "initrd16", "initrdefi", NULL};
    struct words words CLEANUP(words_done) = {.count = 0};
    struct menu_entry entry = {0};
    bool inside = false;
    while (take_line(&text, &words)) {
        if (!inside && is(&words, 0, "menuentry") && opens_block(&words)) {
            grub_title(&words, &entry);
            inside = true;
        } else if (inside && is(&words, 0, "}")) {
            keep(menu, &entry);
            inside = false;
        } else if (inside && one_of(&words, kernels) && words.count > 1 && !entry.kernel) {
            char *path = plain_path(words.items[1]);
            if (*path == '/') {
                entry.kernel = path;
                entry.arguments = join(&words, 2);
            } else {
                free(path);
            }
        } else if (inside && one_of(&words, ramdisks) && !entry.ramdisks) {
            entry.ramdisks = plain_paths(&words, 1);
        } else if (!inside && is(&words, 0, "set")) {
            grub_default(&words, menu);
        } else if (!inside && is(&words, 0, "blscfg")) {
            menu->bls = true;
        }
    }
    keep(menu, &entry);
}

char *menu_grubenv(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0 && line[len] == '=')
            return xstrndup(line + len + 1, strcspn(line + len + 1, "\n"));
    }
    return NULL;
}

/* ---- extlinux ---- */

/* The rest of a line: its key in small letters, its value without blanks around. False: the text is over. */
static bool take_setting(const char **at, char key[32], char **value)
{
    const char *p = *at;
    if (!*p)
        return false;
    size_t len = strcspn(p, "\n");
    const char *end = p + len;
    *at = *end ? end + 1 : end;
    while (p < end && isspace((unsigned char)*p))
        p++;
    size_t n = 0;
    for (; p < end && !isspace((unsigned char)*p); p++)
        if (n < 31)
            key[n++] = (char)tolower((unsigned char)*p);
    key[n] = '\0';
    while (p < end && isspace((unsigned char)*p))
        p++;
    while (end > p && isspace((unsigned char)end[-1]))
        end--;
    replace(value, xstrndup(p, (size_t)(end - p)));
    return true;
}

static char *in_folder(const char *folder, const char *name)
{
    return *name == '/' ? xstrdup(name) : xasprintf("%s/%s", folder, name);
}

static char *ramdisks_in(const char *folder, const char *value, char separator)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "");
    while (*value) {
        const char *end = strchrnul(value, separator);
        char *name AUTO_FREE = xstrndup(value, (size_t)(end - value));
        char *path AUTO_FREE = *name ? in_folder(folder, name) : NULL;
        if (path && text.len)
            buf_add_char(&text, ' ');
        if (path)
            buf_add_str(&text, path);
        value = *end ? end + 1 : end;
    }
    return buf_take(&text);
}

/* "initrd=a,b" among the arguments is how old files name ramdisks. */
static void take_initrd(struct menu_entry *entry, const char *folder)
{
    char *at = entry->arguments ? strstr(entry->arguments, "initrd=") : NULL;
    if (!at || (at > entry->arguments && at[-1] != ' ') || entry->ramdisks)
        return;
    size_t len = strcspn(at, " ");
    char *names AUTO_FREE = xstrndup(at + 7, len - 7);
    entry->ramdisks = ramdisks_in(folder, names, ',');
    memmove(at, at + len, strlen(at + len) + 1);
}

void menu_read_extlinux(const char *text, const char *folder, struct menu *menu)
{
    struct menu_entry entry = {0};
    char key[32], *value AUTO_FREE = NULL;
    while (take_setting(&text, key, &value)) {
        if (strcmp(key, "label") == 0) {
            take_initrd(&entry, folder);
            keep(menu, &entry);
            entry.id = xstrdup(value);
            entry.title = xstrdup(value);
        } else if (strcmp(key, "default") == 0 && !strchr(value, ' ')) {
            replace(&menu->chosen, xstrdup(value));
        } else if (!entry.id) {
            continue;
        } else if ((strcmp(key, "kernel") == 0 || strcmp(key, "linux") == 0) && *value) {
            replace(&entry.kernel, in_folder(folder, value));
        } else if (strcmp(key, "initrd") == 0) {
            replace(&entry.ramdisks, ramdisks_in(folder, value, ','));
        } else if (strcmp(key, "append") == 0) {
            replace(&entry.arguments, xstrdup(value));
        } else if (strcmp(key, "menu") == 0 && strncasecmp(value, "label ", 6) == 0) {
            replace(&entry.title, xstrdup(value + 6));
        }
    }
    take_initrd(&entry, folder);
    keep(menu, &entry);
}

/* ---- BLS ---- */

bool menu_read_bls(const char *text, const char *id, struct menu *menu)
{
    struct menu_entry entry = {.id = xstrdup(id)};
    struct buf ramdisks = BUF_INIT, options = BUF_INIT;
    char key[32], *value AUTO_FREE = NULL;
    while (take_setting(&text, key, &value)) {
        if (strcmp(key, "title") == 0) {
            replace(&entry.title, xstrdup(value));
        } else if (strcmp(key, "linux") == 0 && *value) {
            replace(&entry.kernel, in_folder("", value));
        } else if (strcmp(key, "initrd") == 0 || strcmp(key, "options") == 0) {
            struct buf *to = *key == 'i' ? &ramdisks : &options;
            char *plain AUTO_FREE = *key == 'i' ? ramdisks_in("", value, ' ') : xstrdup(value);
            /* A variable of grubenv ($tuned_initrd) is nothing. */
            if (*key == 'i' && strchr(plain, '$'))
                continue;
            if (to->len)
                buf_add_char(to, ' ');
            buf_add_str(to, plain);
        }
    }
    entry.ramdisks = buf_take(&ramdisks);
    entry.arguments = buf_take(&options);
    return keep(menu, &entry);
}

/* ---- choosing ---- */

const struct menu_entry *menu_find(const struct menu *menu, const char *wanted)
{
    if (!wanted || !*wanted)
        wanted = menu->chosen ? menu->chosen : "0";
    for (size_t i = 0; i < menu->count; i++)
        if (strcmp(menu->items[i].title, wanted) == 0 || strcmp(menu->items[i].id, wanted) == 0)
            return &menu->items[i];
    const char *last = strrchr(wanted, '>');
    if (last && last[1])
        return menu_find(menu, last + 1);
    char *end;
    unsigned long n = strtoul(wanted, &end, 10);
    return isdigit((unsigned char)*wanted) && !*end && n < menu->count ? &menu->items[n] : NULL;
}
