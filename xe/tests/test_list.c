/* Lists and fields: the exact bytes that scripts parse. */
#include "fake.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static struct fake f;
static void setup(void)
{
    fake_init(&f);
}
static void teardown(void)
{
    fake_done(&f);
}
TestSuite(list, .init = setup, .fini = teardown);

#define PRINTS(line, text)                                                                                   \
    do {                                                                                                     \
        cr_expect(eq(int, fake_run(&f, line), 0), "%s", line);                                               \
        cr_expect_str_eq(fake_out(&f), text);                                                                \
        cr_expect_str_eq(fake_err(&f), "");                                                                  \
    } while (0)
#define FAILS(line, text)                                                                                    \
    do {                                                                                                     \
        cr_expect(eq(int, fake_run(&f, line), 1), "%s", line);                                               \
        cr_expect_str_eq(fake_err(&f), text);                                                                \
    } while (0)

Test(list, blocks_are_aligned_and_in_field_order)
{
    PRINTS("vm-list name-label='web, two \\ 2'",
           "uuid ( RO)           : 00000062-0000-4000-8000-000000000000\n"
           "     name-label ( RW): web, two \\ 2\n"
           "    power-state ( RO): running\n"
           "\n"
           "\n");
}

Test(list, an_unknown_column_is_left_out_and_told_of)
{
    cr_expect(eq(int,
                 fake_run(&f, "vm-list uuid=00000061-0000-4000-8000-000000000000 "
                              "params=tags,uuid,bogus,nme-label,other-config"),
                 0));
    cr_expect_str_eq(fake_err(&f), "Left out: a VM has no field 'bogus'.\n"
                                   "Left out: a VM has no field 'nme-label'. Did you mean 'name-label'?\n");
    cr_expect_str_eq(fake_out(&f), "uuid ( RO)            : 00000061-0000-4000-8000-000000000000\n"
                                   "    other-config (MRW): role: web; x: y, z\n"
                                   "            tags (SRW): a, b\n"
                                   "\n"
                                   "\n");
}

Test(list, templates_and_control_domains_are_views_of_vm)
{
    PRINTS("vm-list --minimal params=name-label", "web1,web\\, two \\\\ 2,web1,Control domain on node1\n");
    PRINTS("template-list --minimal params=name-label", "Tiny\n");
    PRINTS("snapshot-list --minimal params=name-label", "snap1\n");
    PRINTS("vm-list --all --minimal params=name-label",
           "web1,web\\, two \\\\ 2,web1,Tiny,snap1,Control domain on node1\n");
}

Test(list, minimal_is_one_line_even_when_nothing_matches)
{
    PRINTS("vm-list --minimal name-label=none", "\n");
    PRINTS("vm-list --minimal uuid=00000099-0000-4000-8000-000000000000", "\n");
    PRINTS("vm-list name-label=none", "");
    PRINTS("message-list --minimal", "\n");
}

Test(list, filters_on_maps_and_sets)
{
    PRINTS("vm-list --minimal params=uuid other-config:role=web", "00000061-0000-4000-8000-000000000000\n");
    PRINTS("vm-list --minimal params=uuid other-config:role=db", "\n");
    PRINTS("vm-list --minimal params=uuid tags:contains=b", "00000061-0000-4000-8000-000000000000\n");
    PRINTS("vm-list --minimal params=uuid tags:contains=c", "\n");
    PRINTS("vm-list --minimal params=uuid current-operations:contains=clean_shutdown",
           "00000062-0000-4000-8000-000000000000\n");
    PRINTS("vif-list --minimal MAC=aa:BB:cc:00:00:01", "000000a1-0000-4000-8000-000000000000\n");
    PRINTS("vm-list --minimal params=name-label power-state=running "
           "resident-on=00000011-0000-4000-8000-000000000000",
           "web\\, two \\\\ 2\n");
}

Test(list, an_unknown_filter_says_which_fields_there_are)
{
    cr_expect(eq(int, fake_run(&f, "vm-list nmae-label=x"), 1));
    cr_expect_eq(strstr(fake_err(&f), "Error code: Missing parameter\nError parameters: nmae-label\n"),
                 fake_err(&f));
    cr_expect_not_null(strstr(
        fake_err(&f), "A VM has no field 'nmae-label'. Did you mean 'name-label'? Its fields:\n    uuid, "));
    cr_expect_str_eq(fake_out(&f), "");
}

Test(list, references_are_shown_by_uuid_and_name)
{
    PRINTS("vbd-list params=all vm-uuid=00000061-0000-4000-8000-000000000000 type=CD",
           "uuid ( RO)                        : 00000052-0000-4000-8000-000000000000\n"
           "                     vm-uuid ( RO): 00000061-0000-4000-8000-000000000000\n"
           "               vm-name-label ( RO): web1\n"
           "                    vdi-uuid ( RO): <not in database>\n"
           "              vdi-name-label ( RO): <EMPTY>\n"
           "          allowed-operations (SRO): \n"
           "          current-operations (SRO): \n"
           "                       empty ( RO): true\n"
           "                      device ( RO): \n"
           "                  userdevice ( RW): 3\n"
           "                    bootable ( RW): false\n"
           "                        mode ( RW): RO\n"
           "                        type ( RW): CD\n"
           "                 unpluggable ( RW): \n"
           "          currently-attached ( RO): false\n"
           "                  attachable ( RO): <expensive field>\n"
           "                storage-lock ( RO): \n"
           "                 status-code ( RO): \n"
           "               status-detail ( RO): \n"
           "          qos_algorithm_type ( RW): \n"
           "        qos_algorithm_params (MRW): \n"
           "    qos_supported_algorithms (SRO): \n"
           "                other-config (MRW): \n"
           "                 io_read_kbs ( RO): <expensive field>\n"
           "                io_write_kbs ( RO): <expensive field>\n"
           "\n"
           "\n");
    PRINTS("sr-list params=name-label,host,type", "name-label ( RW)    : disks\n"
                                                  "          host ( RO): node1\n"
                                                  "          type ( RO): file\n"
                                                  "\n"
                                                  "\n"
                                                  "name-label ( RW)    : isos\n"
                                                  "          host ( RO): <shared>\n"
                                                  "          type ( RO): iso\n"
                                                  "\n"
                                                  "\n");
}

Test(list, words_of_the_wire_are_translated)
{
    PRINTS("console-list --minimal params=protocol", "RFB,VT100\n");
    PRINTS("vdi-list --minimal params=type", "System,User\n");
    PRINTS("vm-list --minimal params=actions-after-crash name-label='web, two \\ 2'",
           "Core dump and destroy\n");
    PRINTS("vm-list --minimal params=can-use-hotplug-vbd",
           "<not in database>,true,<not in database>,<not in database>\n");
    PRINTS("vm-list --minimal params=os-version power-state=running is-control-domain=false",
           "name: Tiny; major: 1\n");
    PRINTS("vm-list --minimal params=start-time power-state=running is-control-domain=false",
           "20260102T03:04:05Z\n");
    PRINTS("task-list --minimal params=progress", "0.250\n");
    PRINTS("vm-list --minimal params=current-operations current-operations=clean_shutdown",
           "clean_shutdown\n");
}

Test(list, calls_depend_on_classes_not_on_objects)
{
    fake_run(&f, "vbd-list params=all");
    cr_expect(eq(sz, fake_count(&f, "VBD.get_all_records"), 1));
    cr_expect(eq(sz, fake_count(&f, "VM.get_all_records"), 1));
    cr_expect(eq(sz, fake_count(&f, "VDI.get_all_records"), 1));
    cr_expect(eq(sz, fake_count(&f, "VM.get_record"), 0));
    fake_run(&f, "vm-list --minimal params=uuid");
    cr_expect_str_eq(f.reads.data, "VM.get_all_records []\n");
}

Test(list, param_get_prints_the_value_alone)
{
    PRINTS("vm-param-get uuid=00000061-0000-4000-8000-000000000000 param-name=name-label", "web1\n");
    PRINTS("vm-param-get uuid=00000061-0000-4000-8000-000000000000 param-name=other-config param-key=x",
           "y, z\n");
    PRINTS("vm-param-get uuid=00000061-0000-4000-8000-000000000000 param-name=memory-static-max",
           "268435456\n");
    FAILS("vm-param-get uuid=00000061-0000-4000-8000-000000000000 param-name=other-config param-key=no",
          "Error: Key no not found in map\n");
    FAILS("vm-param-get uuid=00000099-0000-4000-8000-000000000000 param-name=name-label",
          "There is no object of this class with this uuid. (UUID_INVALID)\n"
          "type: VM\n"
          "uuid: 00000099-0000-4000-8000-000000000000\n");
    FAILS("vm-param-get uuid=x",
          "Required parameter not found: param-name\n"
          "Usage: xe vm-param-get uuid=<uuid> param-name=<param-name> [param-key=<param-key>]\n"
          "For usage run: 'xe help vm-param-get'\n");
}

Test(list, param_list_shows_what_the_server_cannot_tell)
{
    json_object_set_new(f.errors, "VM.get_possible_hosts", json_pack("[s]", "NOT_IMPLEMENTED"));
    cr_expect(eq(int, fake_run(&f, "vm-param-list uuid=00000061-0000-4000-8000-000000000000"), 0));
    cr_expect_not_null(strstr(fake_out(&f), "possible-hosts ( RO): <NOT_IMPLEMENTED>\n"));
    cr_expect_not_null(strstr(fake_out(&f), "ha-always-run ( RW) [DEPRECATED]: "));
    cr_expect_null(strstr(fake_out(&f), "nested-virt"));
    FAILS("vm-param-get uuid=00000061-0000-4000-8000-000000000000 param-name=possible-hosts",
          "The server does not offer this call yet. (NOT_IMPLEMENTED)\nfunction: <unknown>\n");
}
