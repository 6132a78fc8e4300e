/* The tests' data model and small helpers. */
#include "fixture.h"
#include <base/mem.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char *const colour_values[] = {"red", "Green", "blue"};
const struct enum_desc fixture_colours = {"colour", colour_values, 3};

static const struct type t_string = {.kind = TYPE_STRING, .rep = REP_STRING, .name = "string"};
static const struct type t_bool = {.kind = TYPE_BOOL, .rep = REP_BOOL, .name = "bool"};
static const struct type t_int = {.kind = TYPE_INT, .rep = REP_INT, .name = "int"};
static const struct type t_date = {.kind = TYPE_DATETIME, .rep = REP_INT, .name = "datetime"};
static const struct type t_float = {.kind = TYPE_FLOAT, .rep = REP_FLOAT, .name = "float"};
static const struct type t_colour = {
    .kind = TYPE_ENUM, .rep = REP_ENUM, .name = "enum colour", .en = &fixture_colours};
static const struct type t_disk = {.kind = TYPE_REF, .rep = REP_REF, .name = "disk ref", .cls = DISK};
static const struct type t_guest = {.kind = TYPE_REF, .rep = REP_REF, .name = "guest ref", .cls = GUEST};
static const struct type t_link = {.kind = TYPE_REF, .rep = REP_REF, .name = "link ref", .cls = LINK};
static const struct type t_group = {.kind = TYPE_REF, .rep = REP_REF, .name = "group ref", .cls = GROUP};
static const struct type t_job = {.kind = TYPE_REF, .rep = REP_REF, .name = "job ref", .cls = JOB};
static const struct type t_disks = {
    .kind = TYPE_SET, .rep = REP_REF_SET, .name = "disk ref set", .item = &t_disk};
static const struct type t_guests = {
    .kind = TYPE_SET, .rep = REP_REF_SET, .name = "guest ref set", .item = &t_guest};
static const struct type t_links = {
    .kind = TYPE_SET, .rep = REP_REF_SET, .name = "link ref set", .item = &t_link};
static const struct type t_groups = {
    .kind = TYPE_SET, .rep = REP_REF_SET, .name = "group ref set", .item = &t_group};
static const struct type t_jobs = {
    .kind = TYPE_SET, .rep = REP_REF_SET, .name = "job ref set", .item = &t_job};
static const struct type t_strings = {
    .kind = TYPE_SET, .rep = REP_STR_SET, .name = "string set", .item = &t_string};
static const struct type t_ints = {.kind = TYPE_SET, .rep = REP_STR_SET, .name = "int set", .item = &t_int};
static const struct type t_colours = {
    .kind = TYPE_SET, .rep = REP_ENUM_SET, .name = "enum colour set", .item = &t_colour};
static const struct type t_map = {.kind = TYPE_MAP,
                                  .rep = REP_STR_MAP,
                                  .name = "(string -> string) map",
                                  .key = &t_string,
                                  .item = &t_string};
static const struct type t_counts = {
    .kind = TYPE_MAP, .rep = REP_STR_MAP, .name = "(string -> int) map", .key = &t_string, .item = &t_int};
static const struct type t_notes = {.kind = TYPE_MAP,
                                    .rep = REP_STR_MAP,
                                    .name = "(disk ref -> string) map",
                                    .key = &t_disk,
                                    .item = &t_string};
static const struct type t_nested = {
    .kind = TYPE_MAP, .rep = REP_JSON, .name = "(int -> string set) map", .key = &t_int, .item = &t_strings};

STR_STATIC(default_text, "it's \"new\"");
STR_STATIC(default_word, "word");
STR_SET_STATIC(default_words, default_word.text);

#define FIELD(table, class_index, row_struct, number, member, type_, flags_, ...)                            \
    [number] = {.name = #member,                                                                             \
                .db_name = #member,                                                                          \
                .doc = "",                                                                                   \
                .type = &type_,                                                                              \
                .offset = offsetof(struct row_struct, member),                                               \
                .flags = flags_,                                                                             \
                .index = number,                                                                             \
                .cls = &fixture_classes[class_index],                                                        \
                __VA_ARGS__}

static const struct field_desc disk_fields[5], guest_fields[12], link_fields[4], group_fields[3],
    job_fields[6], kind_fields[15];

#define F(number, member, type_, flags_, ...)                                                                \
    FIELD(disk_fields, C_DISK, disk_row, number, member, type_, flags_, __VA_ARGS__)
static const struct field_desc disk_fields[5] = {
    F(0, uuid, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(1, name_label, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(2, size, t_int, FIELD_PERSIST, .initial = {.i = 7}),
    F(3, links, t_links, FIELD_DERIVED, .inverse = &link_fields[2]),
    F(4, parent, t_disk, FIELD_PERSIST, .initial = {.i = 0}),
};
#undef F
#define F(number, member, type_, flags_, ...)                                                                \
    FIELD(guest_fields, C_GUEST, guest_row, number, member, type_, flags_, __VA_ARGS__)
static const struct field_desc guest_fields[12] = {
    F(0, uuid, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(1, name_label, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(2, running, t_bool, 0, .initial = {.i = 0}),
    F(3, other_config, t_map, FIELD_PERSIST, .initial = {.i = 0}),
    F(4, links, t_links, FIELD_DERIVED, .inverse = &link_fields[1]),
    F(5, groups, t_groups, FIELD_PERSIST, .inverse = &group_fields[2]),
    F(6, children, t_guests, FIELD_DERIVED, .inverse = &guest_fields[7]),
    F(7, parent, t_guest, FIELD_PERSIST, .inverse = &guest_fields[6]),
    F(8, home, t_disk, FIELD_PERSIST, .initial = {.i = 0}),
    F(9, favourites, t_disks, FIELD_PERSIST, .initial = {.i = 0}),
    F(10, notes, t_notes, FIELD_PERSIST, .initial = {.i = 0}),
    F(11, job, t_job, FIELD_PERSIST, .initial = {.i = 0}),
};
#undef F
#define F(number, member, type_, flags_, ...)                                                                \
    FIELD(link_fields, C_LINK, link_row, number, member, type_, flags_, __VA_ARGS__)
static const struct field_desc link_fields[4] = {
    F(0, uuid, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(1, guest, t_guest, FIELD_PERSIST, .inverse = &guest_fields[4]),
    F(2, disk, t_disk, FIELD_PERSIST, .inverse = &disk_fields[3]),
    F(3, bootable, t_bool, FIELD_PERSIST, .initial = {.b = true}),
};
#undef F
#define F(number, member, type_, flags_, ...)                                                                \
    FIELD(group_fields, C_GROUP, group_row, number, member, type_, flags_, __VA_ARGS__)
static const struct field_desc group_fields[3] = {
    F(0, uuid, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(1, name_label, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(2, guests, t_guests, FIELD_DERIVED, .inverse = &guest_fields[5]),
};
#undef F
#define F(number, member, type_, flags_, ...)                                                                \
    FIELD(job_fields, C_JOB, job_row, number, member, type_, flags_, __VA_ARGS__)
static const struct field_desc job_fields[6] = {
    F(0, uuid, t_string, 0, .initial = {.str = ""}),
    F(1, name_label, t_string, 0, .initial = {.str = ""}),
    F(2, parent, t_job, 0, .inverse = &job_fields[3]),
    F(3, children, t_jobs, FIELD_DERIVED, .inverse = &job_fields[2]),
    F(4, guest, t_guest, 0, .initial = {.i = 0}),
    F(5, progress, t_float, 0, .initial = {.d = 0.5}),
};
#undef F
#define F(number, member, type_, flags_, ...)                                                                \
    FIELD(kind_fields, C_KIND, kind_row, number, member, type_, flags_, __VA_ARGS__)
static const struct field_desc kind_fields[15] = {
    F(0, uuid, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(1, flag, t_bool, FIELD_PERSIST, .initial = {.b = true}),
    F(2, number, t_int, FIELD_PERSIST, .initial = {.i = -3}),
    F(3, date, t_date, FIELD_PERSIST, .initial = {.i = 86400}),
    F(4, real, t_float, FIELD_PERSIST, .initial = {.d = 0.25}),
    F(5, colour, t_colour, FIELD_PERSIST, .initial = {.e = BLUE}),
    F(6, text, t_string, FIELD_PERSIST, .initial = {.str = default_text.text}),
    F(7, other, t_disk, FIELD_PERSIST, .initial = {.i = 0}),
    F(8, words, t_strings, FIELD_PERSIST, .initial = {.str_set = &default_words}),
    F(9, numbers, t_ints, FIELD_PERSIST, .initial = {.i = 0}),
    F(10, others, t_disks, FIELD_PERSIST, .initial = {.i = 0}),
    F(11, colours, t_colours, FIELD_PERSIST, .initial = {.i = 5}),
    F(12, pairs, t_map, FIELD_PERSIST, .initial = {.i = 0}),
    F(13, counts, t_counts, FIELD_PERSIST, .initial = {.i = 0}),
    F(14, nested, t_nested, FIELD_PERSIST, .initial = {.i = 0}),
};
#undef F

#define F(number, member, type_, flags_, ...)                                                                \
    FIELD(errand_fields, C_ERRAND, errand_row, number, member, type_, flags_, __VA_ARGS__)
static const struct field_desc errand_fields[3] = {
    F(0, uuid, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(1, name_label, t_string, FIELD_PERSIST, .initial = {.str = ""}),
    F(2, moving, t_bool, 0, .initial = {.i = 0}),
};
#undef F

#define CLASS(number, title, flags_, table, row_struct, ...)                                                 \
    [number] = {.name = title,                                                                               \
                .lower_name = title,                                                                         \
                .doc = "",                                                                                   \
                .index = number,                                                                             \
                .flags = flags_,                                                                             \
                .field_count = ARRAY_LEN(table),                                                             \
                .fields = table,                                                                             \
                .row_size = sizeof(struct row_struct),                                                       \
                .uuid = &table[0],                                                                           \
                __VA_ARGS__}
const struct class_desc fixture_classes[C_COUNT] = {
    CLASS(C_DISK, "disk", CLASS_PERSIST, disk_fields, disk_row, .name_label = &disk_fields[1]),
    CLASS(C_GUEST, "guest", CLASS_PERSIST | CLASS_RUNTIME, guest_fields, guest_row,
          .name_label = &guest_fields[1]),
    CLASS(C_LINK, "link", CLASS_PERSIST, link_fields, link_row, .name_label = NULL),
    CLASS(C_GROUP, "group", CLASS_PERSIST, group_fields, group_row, .name_label = &group_fields[1]),
    CLASS(C_JOB, "job", 0, job_fields, job_row, .name_label = &job_fields[1]),
    CLASS(C_KIND, "kind", CLASS_PERSIST, kind_fields, kind_row, .name_label = NULL),
    CLASS(C_ERRAND, "errand", CLASS_PERSIST | CLASS_RUNTIME | CLASS_LAZY, errand_fields, errand_row,
          .name_label = &errand_fields[1]),
};

struct store_config fixture_config(void)
{
    return (struct store_config){.classes = fixture_classes, .class_count = C_COUNT, .schema_version = 3};
}

static _Noreturn void give_up(const char *what, const struct store_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    abort();
}

struct store *fixture_open(const char *path)
{
    struct store_config config = fixture_config();
    config.path = path;
    struct store *store;
    struct store_err err;
    if (store_open(&store, &config, &err) != 0)
        give_up("store_open", &err);
    return store;
}

void fixture_folder(char out[static 64])
{
    strcpy(out, "/tmp/store-test-XXXXXX");
    if (!mkdtemp(out))
        abort();
}

void fixture_remove(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        AUTO_FREE char *path = xasprintf("%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
}

uint64_t fixture_commit(struct tx *tx)
{
    uint64_t generation;
    struct store_err err;
    if (tx_commit(tx, &generation, &err) != 0)
        give_up("tx_commit", &err);
    return generation;
}

void fixture_check(struct store *store)
{
    struct store_err err;
    if (store_check(store, &err) != 0)
        give_up("store_check", &err);
}
