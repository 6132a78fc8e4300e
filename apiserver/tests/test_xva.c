/* Archives in memory: what is written is read again, in any pieces; names; objects of ova.xml. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <xva/ova.h>
#include <xva/xva.h>

struct memory {
    struct buf all;
    size_t at, piece, give_up_at;
};

static int put(void *arg, const void *data, size_t len)
{
    struct memory *m = arg;
    if (m->give_up_at && m->all.len + len > m->give_up_at)
        return -1;
    buf_add(&m->all, data, len);
    return 0;
}

static ssize_t get(void *arg, void *to, size_t max)
{
    struct memory *m = arg;
    size_t n = m->all.len - m->at;
    n = n < max ? n : max;
    n = n < m->piece ? n : m->piece;
    memcpy(to, m->all.data + m->at, n);
    m->at += n;
    return (ssize_t)n;
}

/* Zeros in the second chunk and at the end, other bytes elsewhere. */
static char *disk_data(int64_t size)
{
    char *data = xcalloc(1, (size_t)size + 1);
    for (int64_t i = 0; i < size - 1000; i++)
        if (i / XVA_CHUNK_BYTES != 1)
            data[i] = (char)(i * 7 + i / 1000 + 1);
    return data;
}

static void write_archive(struct memory *m, enum xva_compression compression, enum xva_checksum checksum,
                          const char *data, int64_t size)
{
    struct xva_writer *w = xva_writer_new(compression, checksum, put, m);
    cr_assert_eq(xva_write_ova(w, "<text/>", 7), 0);
    cr_assert_eq(xva_write_disk(w, "Ref:3", size), 0);
    for (int64_t at = 0; at < size; at += 100000)
        cr_assert_eq(xva_write_data(w, data + at, size - at < 100000 ? (size_t)(size - at) : 100000), 0);
    cr_assert_eq(xva_write_end(w), 0);
    xva_writer_free(w);
}

Test(xva, what_is_written_is_read_again)
{
    static const int64_t sizes[] = {512, XVA_CHUNK_BYTES, XVA_CHUNK_BYTES + 512, 4 * XVA_CHUNK_BYTES - 512};
    for (size_t i = 0; i < ARRAY_LEN(sizes) * 6; i++) {
        int64_t size = sizes[i / 6], total = 0;
        struct memory m = {.piece = i % 2 ? 333 : 70000};
        AUTO_FREE char *data = size > 1000 ? disk_data(size) : xcalloc(1, (size_t)size);
        write_archive(&m, (enum xva_compression)(i % 3), i % 2 ? XVA_SHA1 : XVA_XXHASH, data, size);
        struct xva_reader *r = xva_reader_new(get, &m, false);
        struct xva_error error = {0};
        AUTO_BUF struct buf text = BUF_INIT;
        AUTO_FREE char *back = xmalloc((size_t)size + 1);
        char id[XVA_NAME_SIZE];
        cr_assert_eq(xva_read_ova(r, &text, &error), 0, "%s", error.text);
        cr_assert_str_eq(text.data, "<text/>");
        cr_assert_eq(xva_read_disk(r, id, &error), 1, "%s", error.text);
        cr_assert_str_eq(id, "Ref:3");
        xva_expect_size(r, size);
        ssize_t n;
        while ((n = xva_read_data(r, back + total, (size_t)(size - total) + 1, &error)) > 0)
            total += n;
        cr_assert_eq(n, 0, "%s", error.text);
        cr_assert_eq(total, size);
        cr_assert_eq(memcmp(back, data, (size_t)size), 0);
        cr_assert_eq(xva_read_disk(r, id, &error), 0);
        xva_reader_free(r);
        buf_done(&m.all);
    }
}

Test(xva, a_receiver_that_gives_up)
{
    AUTO_FREE char *data = disk_data(4 * XVA_CHUNK_BYTES);
    for (int compression = 0; compression < 3; compression++) {
        struct memory m = {.give_up_at = 1000};
        struct xva_writer *w = xva_writer_new((enum xva_compression)compression, XVA_XXHASH, put, &m);
        int rc = xva_write_ova(w, "x", 1);
        xva_write_disk(w, "Ref:1", 4 * XVA_CHUNK_BYTES);
        for (int i = 0; rc == 0 && i < 4; i++)
            rc = xva_write_data(w, data + (size_t)i * XVA_CHUNK_BYTES, XVA_CHUNK_BYTES);
        cr_assert(rc < 0 || xva_write_end(w) < 0);
        xva_writer_free(w);
        buf_done(&m.all);
    }
}

Test(xva, names)
{
    static const struct {
        const char *name;
        bool good;
        uint32_t number;
        enum xva_part part;
    } cases[] = {
        {"Ref:4/00000000", true, 0, XVA_PART_CHUNK},
        {"Ref:4/00000123.xxhash", true, 123, XVA_PART_XXHASH},
        {"Ref:4/99999999.checksum", true, 99999999, XVA_PART_SHA1},
        {"x/123456789", true, 123456789, XVA_PART_CHUNK},
        {"Ref:4/1234567890", false, 0, 0},
        {"Ref:4/0000000", false, 0, 0},
        {"Ref:4/00000000.md5", false, 0, 0},
        {"Ref:4/00000000x", false, 0, 0},
        {"Ref:4/-0000001", false, 0, 0},
        {"/00000000", false, 0, 0},
        {"../a/00000000", false, 0, 0},
        {"00000000", false, 0, 0},
        {"ova.xml", false, 0, 0},
        {"", false, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char id[XVA_NAME_SIZE];
        uint32_t number;
        enum xva_part part;
        cr_assert_eq(xva_name_parse(cases[i].name, id, &number, &part), cases[i].good, "%s", cases[i].name);
        if (cases[i].good)
            cr_assert(number == cases[i].number && part == cases[i].part, "%s", cases[i].name);
    }
}

Test(xva, references_follow_their_objects)
{
    AUTO_OVA_LIST struct ova_list list = OVA_LIST_INIT;
    struct row *vm = row_new(CLASS_VM, ref_new()), *vbd = row_new(CLASS_VBD, ref_new());
    struct ref elsewhere = ref_new();
    str_assign(&vm_row_mut(vm)->name_label, "a <&> \"b\"");
    vm_row_mut(vm)->affinity = elsewhere;
    vbd_row_mut(vbd)->VM = vm->ref;
    ova_list_add(&list, vm);
    ova_list_add(&list, vbd);
    ova_list_add(&list, vm); /* once is enough */
    AUTO_BUF struct buf text = BUF_INIT;
    ova_write(&list, NULL, "host", &text);
    cr_assert_null(strstr(text.data, REF_TEXT(elsewhere)));
    AUTO_OVA struct ova ova = OVA_INIT;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_assert_eq(ova_parse(text.data, text.len, &ova, &err), 0);
    cr_assert_eq(ova.count, 2);
    const struct ova_object *read = ova_find(&ova, "Ref:0"), *drive = ova_find(&ova, "Ref:1");
    cr_assert(read && read->cls == CLASS_VM && drive && drive->cls == CLASS_VBD);
    cr_assert_null(ova_find(&ova, "Ref:2"));
    cr_assert_str_eq(ova_text(read, "name_label"), "a <&> \"b\"");
    cr_assert_str_eq(ova_text(read, "affinity"), REF_NULL_TEXT);
    cr_assert_str_eq(ova_text(drive, "VM"), "Ref:0");
    struct row *back = row_new(CLASS_VM, REF_NULL);
    cr_assert_eq(ova_fill(read, back, NULL, &err), 0);
    cr_assert_str_eq(vm_row(back)->name_label, "a <&> \"b\"");
    row_unref(back);
    row_unref(vm);
    row_unref(vbd);
}
