/* Files of lines (journal.h). A start always begins a new file, so a line that was cut short is the last of
 * its file. */
#include "journal.h"

#include <base/file.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define FILE_FULL (4u << 20) /* bytes from which on the next record begins another file */
#define FILE_MAX (64u << 20) /* of one to be read: a full one and a record */

struct log_file {
    uint64_t number;
    size_t records; /* of use */
    struct log_file *next;
};

struct journal {
    char *folder;
    pthread_mutex_t lock;   /* guards all that follows, and all places */
    struct log_file *files; /* the newest first */
    int fd;                 /* of the newest, to be added to; -1: the next record begins one */
    off_t size;
};

static char *path_of(const struct journal *journal, uint64_t number)
{
    return xasprintf("%s/%" PRIu64 ".log", journal->folder, number);
}

static struct log_file *file_new(uint64_t number)
{
    struct log_file *file = xcalloc(1, sizeof(*file));
    file->number = number;
    return file;
}

/* Removes files without records, but for the one that is added to. */
static void remove_empty(struct journal *journal)
{
    for (struct log_file **at = &journal->files; *at;) {
        struct log_file *file = *at;
        if (file->records > 0 || (file == journal->files && journal->fd >= 0)) {
            at = &file->next;
            continue;
        }
        char *path AUTO_FREE = path_of(journal, file->number);
        unlink(path);
        *at = file->next;
        free(file);
    }
}

/* With the lock held. */
static void drop(struct journal *journal, struct journal_place *place)
{
    for (struct log_file *file = journal->files; file; file = file->next)
        if (file->number == place->file && --file->records == 0) {
            remove_empty(journal);
            break;
        }
    place->file = 0;
}

void journal_drop(struct journal *journal, struct journal_place *place)
{
    pthread_mutex_lock(&journal->lock);
    drop(journal, place);
    pthread_mutex_unlock(&journal->lock);
}

static int begin_file(struct journal *journal)
{
    uint64_t number = journal->files ? journal->files->number + 1 : 1;
    char *path AUTO_FREE = path_of(journal, number);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    struct log_file *file = file_new(number);
    file->next = journal->files;
    journal->files = file;
    journal->fd = fd;
    journal->size = 0;
    return 0;
}

static void end_file(struct journal *journal)
{
    if (journal->fd < 0)
        return;
    close(journal->fd);
    journal->fd = -1;
    remove_empty(journal);
}

static int append(struct journal *journal, const struct buf *line)
{
    if (journal->fd < 0 && begin_file(journal) < 0)
        return -1;
    ssize_t n = write(journal->fd, line->data, line->len);
    if (n == (ssize_t)line->len) {
        journal->size += n;
        return 0;
    }
    int failure = n < 0 ? errno : ENOSPC;
    /* Half a line may only be the last of its file. */
    if (n > 0 && ftruncate(journal->fd, journal->size) < 0)
        end_file(journal);
    errno = failure;
    return -1;
}

int journal_add(struct journal *journal, const struct buf *line, struct journal_place *place)
{
    pthread_mutex_lock(&journal->lock);
    if (journal->size >= FILE_FULL)
        end_file(journal);
    int rc = append(journal, line);
    if (rc == 0) {
        journal->files->records++;
        if (place->file)
            drop(journal, place);
        place->file = journal->files->number;
    }
    pthread_mutex_unlock(&journal->lock);
    return rc;
}

/* ---- opening ---- */

struct reading {
    void (*found)(void *arg, const char *line, size_t len, struct journal_place place);
    void *arg;
};

static int read_file(struct journal *journal, struct log_file *file, const struct reading *reading)
{
    size_t len;
    char *path AUTO_FREE = path_of(journal, file->number);
    char *text AUTO_FREE = file_read(path, FILE_MAX, &len);
    if (!text)
        return -1;
    file->records++; /* it stays until it is read */
    for (char *line = text, *end; (end = memchr(line, '\n', (size_t)(text + len - line))); line = end + 1) {
        file->records++;
        *end = '\0';
        reading->found(reading->arg, line, (size_t)(end - line), (struct journal_place){file->number});
    }
    file->records--;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* 0: not the name of a file of the journal. */
static uint64_t number_of(const char *name)
{
    char *end;
    uint64_t number = *name >= '1' && *name <= '9' ? strtoull(name, &end, 10) : 0;
    return number && streq(end, ".log") ? number : 0;
}

/* The numbers of the files, sorted; -1 with errno. */
static ssize_t list_files(const char *folder, uint64_t **out)
{
    DIR *list = opendir(folder);
    if (!list)
        return -1;
    uint64_t *numbers = NULL;
    size_t count = 0;
    for (struct dirent *e; (e = readdir(list));) {
        uint64_t number = number_of(e->d_name);
        if (!number)
            continue;
        numbers = xreallocarray(numbers, count + 1, sizeof(*numbers));
        numbers[count++] = number;
    }
    closedir(list);
    if (count)
        qsort(numbers, count, sizeof(*numbers), by_number);
    *out = numbers;
    return (ssize_t)count;
}

static int read_all(struct journal *journal, const struct reading *reading)
{
    uint64_t *numbers AUTO_FREE = NULL;
    ssize_t count = list_files(journal->folder, &numbers);
    if (count < 0)
        return -1;
    for (ssize_t i = 0; i < count; i++) {
        struct log_file *file = file_new(numbers[i]);
        file->next = journal->files;
        journal->files = file;
        if (read_file(journal, file, reading) < 0)
            return -1;
    }
    remove_empty(journal);
    return 0;
}

int journal_open(const char *folder,
                 void (*found)(void *arg, const char *line, size_t len, struct journal_place place),
                 void *arg, struct journal **out)
{
    struct journal *journal = xcalloc(1, sizeof(*journal));
    journal->folder = xstrdup(folder);
    journal->fd = -1;
    pthread_mutex_init(&journal->lock, NULL);
    const struct reading reading = {found, arg};
    *out = journal; /* `found` may drop already */
    if (read_all(journal, &reading) == 0)
        return 0;
    int failure = errno;
    *out = NULL;
    journal_close(journal);
    errno = failure;
    return -1;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->fd >= 0)
        close(journal->fd);
    while (journal->files) {
        struct log_file *file = journal->files;
        journal->files = file->next;
        free(file);
    }
    pthread_mutex_destroy(&journal->lock);
    free(journal->folder);
    free(journal);
}
