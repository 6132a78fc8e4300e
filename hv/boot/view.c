/* Reading of raw images and qcow2 chains (view.h). Layout: QEMU's docs/interop/qcow2.txt. */
#include "view.h"
#include <base/bytes.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYERS_MAX 128
#define L1_MAX (4u << 20)
#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
#define OFFSET_MASK 0x00fffffffffffe00ULL
#define COMPRESSED (1ULL << 62)
#define ZERO 1ULL
#define INCOMPATIBLE_KNOWN 1ULL /* dirty: only the reference counts are not to be relied on */

struct layer {
    int fd;
    bool qcow2;
    uint64_t size;
    unsigned cluster_bits;
    uint64_t *l1;
    uint32_t l1_size;
    uint64_t *l2; /* the table that was used last */
    uint64_t l2_at;
};

struct view {
    struct layer layers[LAYERS_MAX];
    size_t count;
};

/* Of its own: the preloaded library brings nothing but what the kernel reader lacks. */
static bool read_all(int fd, void *data, size_t len, uint64_t at)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(at + done));
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static const char *open_qcow2(struct layer *layer)
{
    uint8_t h[104] = {0};
    if (!read_all(layer->fd, h, 72, 0) || memcmp(h, "QFI\xfb", 4) != 0)
        return "an image is not qcow2";
    uint32_t version = be32_get(h + 4);
    if (version != 2 && version != 3)
        return "an image has an unknown version of qcow2";
    if (version == 3 && !read_all(layer->fd, h + 72, 32, 72))
        return "an image is too short";
    if (be32_get(h + 32) != 0 || (version == 3 && (be64_get(h + 72) & ~INCOMPATIBLE_KNOWN)))
        return "an image is encrypted, damaged or uses features that are not supported";
    layer->cluster_bits = be32_get(h + 20);
    layer->size = be64_get(h + 24);
    layer->l1_size = be32_get(h + 36);
    if (layer->cluster_bits < CLUSTER_BITS_MIN || layer->cluster_bits > CLUSTER_BITS_MAX ||
        layer->l1_size > L1_MAX || layer->size > (uint64_t)1 << 62)
        return "an image has impossible sizes";
    layer->l1 = calloc(layer->l1_size + 1, sizeof(*layer->l1));
    layer->l2 = malloc((size_t)1 << layer->cluster_bits);
    if (!layer->l1 || !layer->l2)
        return "there is no memory for an image's tables";
    if (!read_all(layer->fd, layer->l1, layer->l1_size * sizeof(*layer->l1), be64_get(h + 40)))
        return "an image is shorter than its tables";
    return NULL;
}

static const char *open_layer(struct layer *layer, const char *format)
{
    struct stat st;
    layer->qcow2 = strcmp(format, "qcow2") == 0;
    if (layer->qcow2)
        return open_qcow2(layer);
    if (strcmp(format, "raw") != 0)
        return "an image has a format that is not supported";
    if (fstat(layer->fd, &st) < 0)
        return "an image cannot be opened";
    off_t end = S_ISREG(st.st_mode) ? st.st_size : lseek(layer->fd, 0, SEEK_END);
    if (end < 0)
        return "an image has no size";
    layer->size = (uint64_t)end;
    return NULL;
}

struct view *view_open(const char *words, const char **why)
{
    struct view *view = calloc(1, sizeof(*view));
    *why = view ? NULL : "there is no memory";
    while (view && !*why && *words) {
        char format[16];
        int fd, used = 0;
        if (view->count == LAYERS_MAX) {
            *why = "the disk has too many images";
        } else if (sscanf(words, "%15[a-z0-9]:%d%n", format, &fd, &used) != 2 || fd < 0 ||
                   (words[used] && words[used] != ',')) {
            *why = "the disk is described in unknown words";
        } else {
            struct layer *layer = &view->layers[view->count++];
            layer->fd = fd;
            *why = open_layer(layer, format);
            words += used + (words[used] == ',');
        }
    }
    if (view && !*why && view->count == 0)
        *why = "the disk has no images";
    if (*why) {
        view_close(view);
        return NULL;
    }
    return view;
}

void view_close(struct view *view)
{
    for (size_t i = 0; view && i < view->count; i++) {
        free(view->layers[i].l1);
        free(view->layers[i].l2);
    }
    free(view);
}

uint64_t view_size(const struct view *view)
{
    return view->layers[0].size;
}

enum found { FOUND_DATA, FOUND_ZEROS, FOUND_BELOW, FOUND_NOTHING };

/* Where `at` is in the image's file, and in *len how far that goes on. */
static enum found look_up(struct layer *layer, uint64_t at, uint64_t *len, uint64_t *offset)
{
    if (at >= layer->size)
        return FOUND_ZEROS; /* an image that is smaller than the one above it */
    if (*len > layer->size - at)
        *len = layer->size - at;
    *offset = at;
    if (!layer->qcow2)
        return FOUND_DATA;
    uint64_t cluster = (uint64_t)1 << layer->cluster_bits, within = at & (cluster - 1);
    uint64_t entries = cluster / sizeof(uint64_t), index = at >> layer->cluster_bits;
    if (*len > cluster - within)
        *len = cluster - within;
    uint64_t table = index / entries < layer->l1_size ? be64toh(layer->l1[index / entries]) & OFFSET_MASK : 0;
    if (!table)
        return FOUND_BELOW;
    if (table != layer->l2_at) {
        layer->l2_at = 0;
        if (!read_all(layer->fd, layer->l2, cluster, table))
            return FOUND_NOTHING;
        layer->l2_at = table;
    }
    uint64_t entry = be64toh(layer->l2[index % entries]);
    if (entry & COMPRESSED)
        return FOUND_NOTHING;
    if (entry & ZERO)
        return FOUND_ZEROS;
    if (!(entry & OFFSET_MASK))
        return FOUND_BELOW;
    *offset = (entry & OFFSET_MASK) + within;
    return FOUND_DATA;
}

/* A piece that is in one place; its length in *len. */
static bool read_piece(struct view *view, void *data, uint64_t *len, uint64_t at)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < view->count; i++) {
        struct layer *layer = &view->layers[i];
        switch (look_up(layer, at, len, &offset)) {
        case FOUND_DATA: {
            ssize_t n = pread(layer->fd, data, *len, (off_t)offset);
            if (n < 0)
                return false;
            memset((char *)data + n, 0, *len - (size_t)n); /* a file that ends early reads as zeros */
            return true;
        }
        case FOUND_ZEROS:
            memset(data, 0, *len);
            return true;
        case FOUND_NOTHING:
            return false;
        case FOUND_BELOW:
            break;
        }
    }
    memset(data, 0, *len);
    return true;
}

ssize_t view_read(struct view *view, void *data, size_t len, uint64_t at)
{
    uint64_t size = view_size(view), done = 0;
    if (at >= size)
        return 0;
    if (len > size - at)
        len = size - at;
    while (done < len) {
        uint64_t piece = len - done;
        if (!read_piece(view, (char *)data + done, &piece, at + done)) {
            errno = EIO;
            return -1;
        }
        done += piece;
    }
    return (ssize_t)done;
}
