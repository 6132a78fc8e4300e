/* Merging images: what stands between a disk's image and a base because of snapshots that are gone.
 *
 * A base L with one image U on it, and nobody else: U's blocks are written into L, and then L takes U's name
 * by a rename. While that goes on every block that changes in L is one that U holds, so whoever reads through
 * U sees no difference, and a death at any point leaves the pair as it was, or merged. Raw bases stay, since
 * the name of an image tells its format. */
#include "storage_internal.h"
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

void storage_merges_done(struct storage_merges *merges)
{
    for (size_t i = 0; i < merges->count; i++)
        free(merges->items[i].tops);
    free(merges->items);
    *merges = (struct storage_merges){.count = 0};
}

/* ---- finding ---- */

static bool stands_on(const struct layers_found *found, const struct layer_found *image, const char *name)
{
    for (int depth = 0; image && depth <= LAYERS_MAX; depth++) {
        if (streq(image->name, name) || streq(image->backing, name))
            return true;
        image = image->backing[0] ? layers_find_base(found, image->backing) : NULL;
    }
    return false;
}

static void add_tops(const struct storage_sr *sr, const struct layers_found *found,
                     struct storage_merge *merge)
{
    merge->tops = xcalloc(found->top_count + 1, sizeof(*merge->tops));
    for (size_t i = 0; i < found->top_count; i++) {
        char uuid[FILE_NAME_SIZE];
        enum disk_format format;
        if (stands_on(found, &found->tops[i], merge->upper) &&
            disk_name_parse(sr, found->tops[i].name, uuid, &format))
            snprintf(merge->tops[merge->top_count++], UUID_TEXT_SIZE, "%.36s", uuid);
    }
}

static bool is_qcow2(const char *name)
{
    size_t len = strlen(name);
    return len > 6 && streq(name + len - 6, ".qcow2");
}

/* Can the one image on this base be merged into it? */
static bool fits(const struct storage_sr *sr, const struct layers_found *found,
                 const struct layer_found *base, struct storage_merge *merge)
{
    char uuid[FILE_NAME_SIZE];
    enum disk_format format;
    struct stat st;
    if (base->users != 1 || !is_qcow2(base->name) || !is_qcow2(base->user))
        return false;
    bool of_disk = disk_name_parse(sr, base->user, uuid, &format);
    /* What changed in a tracked disk is what its own image holds. */
    if (!of_disk ? !layers_find_base(found, base->user) : changed_tracked(sr, uuid))
        return false;
    if (fstatat(sr->dir, base->user, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    *merge = (struct storage_merge){.of_disk = of_disk, .bytes = (int64_t)st.st_blocks * 512};
    snprintf(merge->lower, sizeof(merge->lower), "%s", base->name);
    snprintf(merge->upper, sizeof(merge->upper), "%s", base->user);
    return true;
}

static int by_bytes(const void *a, const void *b)
{
    int64_t left = ((const struct storage_merge *)a)->bytes, right = ((const struct storage_merge *)b)->bytes;
    return left < right ? -1 : left > right;
}

int storage_merges_find(struct storage_sr *sr, struct storage_merges *out, struct storage_error *error)
{
    AUTO_LAYERS_FOUND struct layers_found found = {.count = 0};
    *out = (struct storage_merges){.count = 0};
    if (sr->kind->read_only)
        return 0;
    pthread_mutex_lock(&sr->layers);
    int outcome = layers_find(sr, &found);
    int saved = errno;
    for (size_t i = 0; outcome == 0 && !found.blind && i < found.count; i++) {
        struct storage_merge merge;
        if (!fits(sr, &found, &found.items[i], &merge))
            continue;
        add_tops(sr, &found, &merge);
        out->items = xreallocarray(out->items, out->count + 1, sizeof(*out->items));
        out->items[out->count++] = merge;
    }
    pthread_mutex_unlock(&sr->layers);
    if (outcome < 0)
        return storage_fail_errno(error, saved, "cannot read the directory");
    if (out->count > 1)
        qsort(out->items, out->count, sizeof(*out->items), by_bytes);
    return 0;
}

/* ---- doing ---- */

static int gone(struct storage_error *error)
{
    return storage_fail(error, STORAGE_NOT_SUPPORTED, "the images are not as they were: nothing to merge");
}

/* With sr->layers held: is it still as it was found? */
static int check(struct storage_sr *sr, const struct storage_merge *merge, struct storage_error *error)
{
    AUTO_LAYERS_FOUND struct layers_found found = {.count = 0};
    struct storage_merge now;
    if (layers_find(sr, &found) < 0)
        return storage_fail_errno(error, errno, "cannot read the directory");
    const struct layer_found *base = layers_find_base(&found, merge->lower);
    return !found.blind && base && fits(sr, &found, base, &now) && streq(now.upper, merge->upper)
               ? 0
               : gone(error);
}

int storage_merge_open(struct storage_sr *sr, const char *name, int *fd, struct storage_error *error)
{
    char uuid[FILE_NAME_SIZE];
    enum disk_format format;
    if (!base_name_parse(name, uuid, &format) && !disk_name_parse(sr, name, uuid, &format))
        return storage_fail(error, STORAGE_BAD_NAME, "that is no image's name");
    int opened = folder_open(sr, name, O_RDWR);
    if (opened < 0)
        return storage_fail_errno(error, errno, "cannot open an image");
    *fd = opened;
    return 0;
}

int storage_merge_begin(struct storage_sr *sr, const struct storage_merge *merge, struct storage_error *error)
{
    int upper AUTO_CLOSE = -1;
    if (disk_refuse_change(sr, error) < 0)
        return -1;
    pthread_mutex_lock(&sr->layers);
    int outcome = check(sr, merge, error);
    if (outcome == 0)
        outcome = storage_merge_open(sr, merge->upper, &upper, error);
    if (outcome == 0)
        outcome = changed_merge(sr, merge->lower, merge->upper, upper, error);
    pthread_mutex_unlock(&sr->layers);
    failpoint_of("merge-begun", merge->of_disk ? "disk" : "base");
    return outcome;
}

int storage_merge_write(struct storage_sr *sr, const struct storage_merge *merge,
                        const struct storage_job *job, struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    return layers_open_from(sr, merge->upper, O_RDWR, &layers, error) < 0
               ? -1
               : image_commit(sr, &layers, job, error);
}

int storage_merge_finish(struct storage_sr *sr, const struct storage_merge *merge,
                         struct storage_error *error)
{
    int lower AUTO_CLOSE = -1;
    if (storage_merge_open(sr, merge->lower, &lower, error) < 0)
        return -1;
    if (fsync(lower) < 0)
        return storage_fail_errno(error, errno, "cannot write the disk's data");
    failpoint_of("merge-written", merge->of_disk ? "disk" : "base");
    pthread_mutex_lock(&sr->layers);
    int outcome = check(sr, merge, error);
    if (outcome == 0 && renameat(sr->dir, merge->lower, sr->dir, merge->upper) < 0)
        outcome = storage_fail_errno(error, errno, "cannot give the image its name");
    if (outcome == 0)
        outcome = folder_sync(sr, error);
    pthread_mutex_unlock(&sr->layers);
    return outcome;
}

int storage_disk_image_names(struct storage_sr *sr, const char *location, char ***names, size_t *count,
                             struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    if (disk_layers_open(sr, location, O_RDONLY, &layers, error) < 0)
        return -1;
    *names = xcalloc(layers.count, sizeof(**names));
    *count = layers.count;
    for (size_t i = 0; i < layers.count; i++)
        (*names)[i] = xstrdup(layers.files[i].name);
    return 0;
}
