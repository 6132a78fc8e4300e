/* The journal of an agent's operations (agent/journal.h): what is found again, and which files stay. */
#include "../agent/journal.h"
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

static char folder[] = "/tmp/journal-XXXXXX";
static struct journal *journal;

static void start(void)
{
    cr_assert(mkdtemp(folder));
}

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void stop(void)
{
    journal_close(journal);
    DIR *list = opendir(folder);
    for (struct dirent *e; (e = readdir(list));) {
        char *path AUTO_FREE = path_of(e->d_name);
        unlink(path);
    }
    closedir(list);
    rmdir(folder);
}

TestSuite(journal, .init = start, .fini = stop, .timeout = 60);

static int count_files(void)
{
    int count = 0;
    DIR *list = opendir(folder);
    for (struct dirent *e; (e = readdir(list));)
        count += strstr(e->d_name, ".log") != NULL;
    closedir(list);
    return count;
}

/* What the last opening found. */
static struct found {
    char text[1024]; /* the lines, with "|" behind each */
    struct journal_place places[64];
    size_t count;
} found;

static void on_found(void *arg, const char *line, size_t len, struct journal_place place)
{
    cr_assert_eq(arg, &found);
    cr_assert_eq(strlen(line), len);
    size_t used = strlen(found.text);
    snprintf(found.text + used, sizeof(found.text) - used, "%.20s|", line);
    found.places[found.count++] = place;
}

static void reopen(void)
{
    journal_close(journal);
    found = (struct found){0};
    cr_assert_eq(journal_open(folder, on_found, &found, &journal), 0);
}

static void add(const char *line, struct journal_place *place)
{
    struct buf text AUTO_BUF = BUF_INIT;
    buf_printf(&text, "%s\n", line);
    cr_assert_eq(journal_add(journal, &text, place), 0);
}

Test(journal, records_are_found_in_order)
{
    struct journal_place a = {0}, b = {0};
    reopen();
    cr_assert_eq(count_files(), 0, "a file without records");
    add("a begins", &a);
    add("b begins", &b);
    add("a ends", &a);
    reopen();
    cr_assert_str_eq(found.text, "a begins|b begins|a ends|");
    add("c begins", &(struct journal_place){0});
    reopen();
    cr_assert_str_eq(found.text, "a begins|b begins|a ends|c begins|");
}

Test(journal, a_file_goes_with_its_last_record)
{
    struct journal_place a = {0}, b = {0};
    reopen();
    add("a", &a);
    add("b", &b);
    reopen(); /* what comes now is in another file */
    struct journal_place *old = found.places;
    add("a again", &old[0]);
    cr_assert_eq(count_files(), 2);
    journal_drop(journal, &old[1]);
    cr_assert_eq(count_files(), 1);
    cr_assert_eq(old[1].file, 0);
    reopen();
    cr_assert_str_eq(found.text, "a again|");
    journal_drop(journal, &found.places[0]);
    cr_assert_eq(count_files(), 0);
}

Test(journal, a_line_that_was_cut_short_is_none)
{
    reopen();
    add("whole", &(struct journal_place){0});
    char *path AUTO_FREE = path_of("1.log");
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_APPEND);
    cr_assert_eq(write(fd, "hal", 3), 3);
    reopen();
    cr_assert_str_eq(found.text, "whole|");
    add("next", &(struct journal_place){0});
    reopen();
    cr_assert_str_eq(found.text, "whole|next|");
}

Test(journal, full_files_are_followed_by_others)
{
    struct journal_place first = {0}, place = {0};
    char *big AUTO_FREE = xmalloc((1u << 20) + 1);
    memset(big, 'x', 1u << 20);
    big[1u << 20] = '\0';
    reopen();
    add("first", &first);
    for (int i = 0; i < 12; i++)
        add(big, &place);
    cr_assert_eq(count_files(), 2, "files without records of use stay");
    journal_drop(journal, &first);
    cr_assert_eq(count_files(), 1);
    cr_assert_gt(place.file, 2);
}

Test(journal, a_folder_that_is_not_there)
{
    char *path AUTO_FREE = path_of("none");
    cr_assert_eq(journal_open(path, on_found, &found, &journal), -1);
    cr_assert_null(journal);
}
