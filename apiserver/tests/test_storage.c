/* What is pure in storage: names of devices and sizes of disks. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <rules/vbd_device.h>
#include <rules/vdi_size.h>

Test(vbd_device, names_are_numbers)
{
    static const struct {
        const char *text;
        int number;
    } table[] = {
        {"0", 0},   {"1", 1},    {"15", 15},    {"254", 254}, {"xvda", 0},   {"xvdb", 1},    {"hda", 0},
        {"hdd", 3}, {"sdz", 25}, {"xvdaa", 26}, {"sdab", 27}, {"xvdba", 52}, {"xvdiu", 254},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        int number = -1;
        cr_assert(vbd_device_parse(table[i].text, &number), "%s is refused", table[i].text);
        cr_assert_eq(number, table[i].number, "%s is %d", table[i].text, number);
    }
}

Test(vbd_device, refuses_what_is_no_device)
{
    static const char *const bad[] = {
        "",    " 0",         "-1",   "00",   "01",    "255",   "99999999999999999999", "1 ",
        "0x1", "xvd",        "hd",   "xvdA", "xvda1", "xvdiv", "sdzzzzzzzzzzzzz",      "vda",
        "fda", "autodetect", "XVDA", "a"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int number = -7;
        cr_assert(!vbd_device_parse(bad[i], &number), "'%s' is accepted as %d", bad[i], number);
        cr_assert_eq(number, -7);
    }
}

Test(vbd_device, each_number_has_a_name_of_its_own)
{
    for (int i = 0; i <= VBD_DEVICE_MAX; i++) {
        char name[VBD_DEVICE_NAME_SIZE];
        int back = -1;
        cr_assert(vbd_device_parse(vbd_device_name(i, name), &back), "%s", name);
        cr_assert_eq(back, i, "%d is %s is %d", i, name, back);
    }
    char name[VBD_DEVICE_NAME_SIZE];
    cr_assert_str_eq(vbd_device_name(0, name), "xvda");
    cr_assert_str_eq(vbd_device_name(26, name), "xvdaa");
}

Test(vdi_size, rounds_up_to_sectors)
{
    static const struct {
        int64_t asked, made;
    } table[] = {{1, 512},
                 {511, 512},
                 {512, 512},
                 {513, 1024},
                 {8589934592, 8589934592},
                 {VDI_SIZE_MAX - 1, VDI_SIZE_MAX},
                 {VDI_SIZE_MAX, VDI_SIZE_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        int64_t made = -1;
        cr_assert(vdi_round_size(table[i].asked, &made));
        cr_assert_eq(made, table[i].made);
    }
}

Test(vdi_size, refuses_what_no_disk_has)
{
    static const int64_t bad[] = {0, -1, INT64_MIN, VDI_SIZE_MAX + 1, INT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t made = -1;
        cr_assert(!vdi_round_size(bad[i], &made));
        cr_assert_eq(made, -1);
    }
}
