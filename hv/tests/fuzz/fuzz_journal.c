/* Any bytes as a file of the agent's journal: its lines are records or none, and a record that is written
 * again says the same. When all are dropped, no file is left. */
#include <agent/operation.h>
#include <base/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/corral-fuzz-journal-XXXXXX";
static struct journal_place *places;
static size_t count;

static void leave(void)
{
    rmdir(folder);
}

static void found(void *arg, const char *line, size_t len, struct journal_place place)
{
    (void)arg;
    places = xreallocarray(places, count + 1, sizeof(*places));
    places[count++] = place;
    struct agent_op *op = agent_op_read(line, len), *again;
    if (!op)
        return;
    struct buf text AUTO_BUF = BUF_INIT, twice AUTO_BUF = BUF_INIT;
    agent_op_write(op, &text);
    again = agent_op_read(text.data, text.len - 1);
    if (!again || memchr(text.data, '\n', text.len) != text.data + text.len - 1)
        abort();
    agent_op_write(again, &twice);
    if (text.len != twice.len || memcmp(text.data, twice.data, text.len) != 0)
        abort();
    agent_op_unref(again);
    agent_op_unref(op);
}

static void put(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "w");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    if (!made && (!mkdtemp(folder) || atexit(leave) != 0))
        abort();
    made = true;
    char *path AUTO_FREE = xasprintf("%s/1.log", folder);
    struct journal *journal;
    count = 0;
    put(path, data, size);
    if (journal_open(folder, found, NULL, &journal) < 0)
        abort();
    for (size_t i = 0; i < count; i++)
        journal_drop(journal, &places[i]);
    journal_close(journal);
    if (access(path, F_OK) == 0)
        abort();
    free(TAKE_PTR(places));
    return 0;
}
