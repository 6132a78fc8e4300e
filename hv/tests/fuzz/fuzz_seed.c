/* Any texts as the files of a seed: NAME TEXT NAME TEXT ..., each ended by the byte 0xff. What is taken
 * becomes an image in which both trees have all files, inside it, with their bytes. */
#include <base/bytes.h>
#include <base/mem.h>
#include <ctype.h>
#include <hv/seed.h>
#include <stdlib.h>

#define SECTOR 2048
#define PAIRS_MAX 12

static char *next_text(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *stop = memchr(*at, 0xff, (size_t)(end - *at));
    size_t len = (size_t)((stop ? stop : end) - *at);
    char *text = xmalloc(len + 1);
    memcpy(text, *at, len);
    text[len] = '\0';
    *at += len + (stop != NULL);
    return text;
}

/* The record of a folder at `at` has this file. */
static bool is(const uint8_t *record, const struct str_pair *file, bool joliet, const struct buf *image)
{
    size_t len = strlen(file->key), size = strlen(file->value);
    const uint8_t *name = record + 33;
    if (record[32] != (joliet ? 2 * len : len + 3) || le32_get(record + 10) != size)
        return false;
    for (size_t i = 0; i < len; i++)
        if (joliet ? name[2 * i] != 0 || name[2 * i + 1] != file->key[i] : name[i] != toupper(file->key[i]))
            return false;
    size_t from = (size_t)le32_get(record + 2) * SECTOR;
    return from + size <= image->len && memcmp(image->data + from, file->value, size) == 0;
}

static void check_tree(const struct buf *image, const struct str_map *files, bool joliet)
{
    const uint8_t *bytes = (const uint8_t *)image->data, *volume = bytes + (joliet ? 17 : 16) * SECTOR;
    const uint8_t *folder = bytes + (size_t)le32_get(volume + 156 + 2) * SECTOR, *at = folder;
    if (le32_get(volume + 80) * (uint64_t)SECTOR != image->len || memcmp(volume + 1, "CD001", 5) != 0)
        abort();
    at += at[0]; /* itself, its parent */
    at += at[0];
    for (size_t i = 0; i < files->count; i++) {
        if (at + at[0] > folder + SECTOR || !is(at, &files->pairs[i], joliet, image))
            abort();
        at += at[0];
    }
    if (at[0] != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *texts[2 * PAIRS_MAX];
    struct str_pair pairs[PAIRS_MAX];
    size_t count = 0;
    const uint8_t *end = data + size;
    while (data < end && count < PAIRS_MAX) {
        pairs[count].key = texts[2 * count] = next_text(&data, end);
        pairs[count].value = texts[2 * count + 1] = next_text(&data, end);
        count++;
    }
    AUTO_STR_MAP const struct str_map *files = str_map_new(pairs, count);
    for (size_t i = 0; i < 2 * count; i++)
        free(texts[i]);
    if (!seed_ok(files))
        return 0;
    AUTO_BUF struct buf image = BUF_INIT;
    seed_write(files, &image);
    check_tree(&image, files, false);
    check_tree(&image, files, true);
    return 0;
}
