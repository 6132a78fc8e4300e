/* Any bytes as an archive of a VM: its text, each object of it as a row, and the data of its disks, which is
 * never more than what was announced. */
#include <base/mem.h>
#include <stdint.h>
#include <xva/ova.h>
#include <xva/xva.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK_BYTES (3 * XVA_CHUNK_BYTES)

struct source {
    const uint8_t *data;
    size_t left;
};

static ssize_t give(void *arg, void *to, size_t max)
{
    struct source *s = arg;
    size_t n = s->left < max ? s->left : max;
    memcpy(to, s->data, n);
    s->data += n;
    s->left -= n;
    return (ssize_t)n;
}

static void fill(const struct ova *ova)
{
    for (size_t i = 0; i < ova->count; i++) {
        const struct ova_object *object = &ova->objects[i];
        if (!ova_find(ova, object->id))
            abort();
        if (!object->cls || !object->cls->row_size)
            continue;
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct row *row = row_new(object->cls, REF_NULL);
        int rc = ova_fill(object, row, NULL, &err);
        if ((rc < 0) != (err.desc != NULL))
            abort();
        row_unref(row);
    }
}

static void read_text(struct xva_reader *r)
{
    AUTO_BUF struct buf text = BUF_INIT;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct xva_error error;
    if (xva_read_ova(r, &text, &error) < 0)
        return;
    AUTO_OVA struct ova ova = OVA_INIT;
    if (ova_parse(text.data ? text.data : "", text.len, &ova, &err) == 0)
        fill(&ova);
}

static void read_disks(struct xva_reader *r)
{
    AUTO_FREE char *piece = xmalloc(65536);
    char id[XVA_NAME_SIZE];
    struct xva_error error;
    for (int disks = 0; disks < 4 && xva_read_disk(r, id, &error) > 0; disks++) {
        ssize_t n;
        int64_t total = 0;
        xva_expect_size(r, DISK_BYTES);
        while ((n = xva_read_data(r, piece, 65536, &error)) > 0)
            total += n;
        if (total > DISK_BYTES)
            abort();
        if (n < 0)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The first byte says whether checksums matter. */
    struct source source = {data + 1, size ? size - 1 : 0};
    if (size == 0)
        return 0;
    struct xva_reader *r = xva_reader_new(give, &source, data[0] & 1);
    read_text(r);
    read_disks(r);
    xva_reader_free(r);
    return 0;
}
