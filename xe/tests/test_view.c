/* How results are shown and waited for: --json, --csv, --columns, --sort, --where, --watch, --async, --wait;
 * and which object a text means. */
#include "fake.h"
#include <base/mem.h>
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
TestSuite(view, .init = setup, .fini = teardown);

#define VM1 "00000061-0000-4000-8000-000000000000"
#define VM2 "00000062-0000-4000-8000-000000000000"
#define VM3 "00000063-0000-4000-8000-000000000000"

static const struct {
    const char *line;
    int code;
    const char *out, *err; /* err NULL: not looked at */
} rows[] = {
    {"vm-list --json --columns=name-label,power-state,memory-static-max,tags,other-config,is-a-template "
     "uuid=" VM1,
     0,
     "[\n  {\n    \"name-label\": \"web1\",\n    \"power-state\": \"halted\",\n    \"memory-static-max\": "
     "268435456,\n"
     "    \"tags\": [\n      \"a\",\n      \"b\"\n    ],\n    \"other-config\": {\n      \"role\": \"web\",\n"
     "      \"x\": \"y, z\"\n    },\n    \"is-a-template\": false\n  }\n]\n",
     ""},
    {"vm-list --json name-label=nobody", 0, "[]\n", ""},
    {"vm-param-get --json uuid=" VM1 " param-name=tags", 0, "[\n  \"a\",\n  \"b\"\n]\n", ""},
    {"vm-param-get --json uuid=" VM1 " param-name=resident-on", 0, "null\n", ""},
    {"vm-list --csv --columns=name-label,power-state,other-config --sort=uuid", 0,
     "name-label,power-state,other-config\nweb1,halted,\"role: web; x: y, z\"\n\"web, two \\ 2\",running,\n"
     "web1,halted,\nControl domain on node1,running,\n",
     ""},
    {"vm-list --minimal --columns=name-label --sort=-uuid", 0,
     "Control domain on node1,web1,web\\, two \\\\ 2,web1\n", ""},
    {"vm-list --minimal --columns=uuid --sort=name_label,-uuid --where 'name_label = web1'", 0,
     VM3 "," VM1 "\n", ""},
    /* Names of the API have its values, names of xe what lists show. */
    {"vm-list --minimal --columns=uuid --where 'power_state = Halted and tags = a'", 0, VM1 "\n", ""},
    {"vm-list --minimal --columns=uuid --where 'power-state = halted and other_config.role = web'", 0,
     VM1 "\n", ""},
    {"vm-list --minimal --columns=uuid --where=resident_on=00000011-0000-4000-8000-000000000000 "
     "is-control-domain=false",
     0, VM2 "\n", ""},
    {"vm-list --minimal --columns=uuid --where 'memory_static_max > 1 and not name-label ~ \"w*\"'", 0,
     "00000066-0000-4000-8000-000000000000\n", ""},
    {"vm-list --where 'colour = red'", 1, "",
     "--where: There is no field colour to filter by.\nUsage: xe vm-list [<field>=<value> ...]\n"
     "For usage run: 'xe help vm-list'\n"},
    {"vm-list --columns=nmae-label", 1, "", NULL},
    {"vm-list --sort=nmae-label", 1, "", NULL},
    {"vm-list --json --minimal", 1, "", NULL},
    {"vm-start vm=web1 --watch", 1, "", NULL},
    {"vm-install template=Tiny new-name-label=x --async", 1, "", NULL},
    {"vm-list --json=yes", 1, "", NULL},
    /* A uuid, a name or the only beginning. */
    {"vm-param-get uuid=Tiny param-name=uuid", 0, "00000064-0000-4000-8000-000000000000\n", ""},
    {"vm-param-get uuid=00000062 param-name=uuid", 0, VM2 "\n", ""},
    {"vm-param-get uuid=0000006 param-name=uuid", 1, "",
     "Error: '0000006' means 6 objects; say more of the uuid:\n"
     "    " VM1 "  web1\n    " VM2 "  web, two \\ 2\n    " VM3 "  web1\n"
     "    00000064-0000-4000-8000-000000000000  Tiny\n    00000065-0000-4000-8000-000000000000  snap1\n"
     "    00000066-0000-4000-8000-000000000000  Control domain on node1\n"},
    {"vm-param-get uuid=web1 param-name=uuid", 1, "",
     "Error: 'web1' means 2 objects; say more of the uuid:\n    " VM1 "  web1\n    " VM3 "  web1\n"},
    {"vm-param-get uuid=000 param-name=uuid", 1, "",
     "There is no object of this class with this uuid. (UUID_INVALID)\ntype: VM\nuuid: 000\n"},
    {"vm-param-get uuid= param-name=uuid", 1, "", NULL},
    {"vm-pause vm=00000063 --minimal", 0, "\n", ""},
    {"host-disable hots=node1", 1, "", NULL},
    {"network-create nmae-label=x", 1, "", NULL},
};

Test(view, table)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int code = fake_run(&f, rows[i].line);
        cr_expect(eq(int, code, rows[i].code), "%s: %s", rows[i].line, fake_err(&f));
        cr_expect_str_eq(fake_out(&f), rows[i].out, "%s: %s", rows[i].line, fake_out(&f));
        if (rows[i].err)
            cr_expect_str_eq(fake_err(&f), rows[i].err, "%s: %s", rows[i].line, fake_err(&f));
    }
}

Test(view, a_misspelt_parameter_has_a_suggestion)
{
    cr_expect(eq(int, fake_run(&f, "vm-install new-name-label=a tempalte=b"), 1));
    cr_expect_eq(strstr(fake_err(&f), "Unknown parameter: tempalte\nDid you mean 'template'?\n"),
                 fake_err(&f));
}

Test(view, watch_shows_the_list_again_at_each_event_until_ctrl_c)
{
    f.interrupt = true;
    f.rounds = 3;
    cr_expect(eq(int, fake_run(&f, "vm-list --watch --json --columns=name-label uuid=" VM1), 0));
    cr_expect_str_eq(fake_out(&f), "---\n[{\"name-label\":\"web1\"}]\n---\n[{\"name-label\":\"web1\"}]\n"
                                   "---\n[{\"name-label\":\"web1\"}]\n");
    cr_expect_not_null(strstr(f.reads.data, "event.from [[\"VM\"],\"\",0.0]"));
    f.rounds = 1;
    f.interrupt = true;
    cr_expect(eq(int, fake_run(&f, "vm-list --watch --minimal params=name-label uuid=" VM1), 0));
    cr_expect_str_eq(fake_out(&f), "---\nweb1\n");
}

Test(view, async_leaves_the_task_and_names_it)
{
    cr_expect(eq(int, fake_run(&f, "vm-pause uuid=" VM3 " --async"), 0));
    cr_expect_str_eq(fake_out(&f), "made-uuid-1\n");
    cr_expect_str_eq(fake_log(&f), "VM.pause [\"OpaqueRef:vm3\"]\n");
    cr_expect(eq(int, fake_run(&f, "vm-clone uuid=" VM1 " new-name-label=x --async --minimal"), 0));
    cr_expect_str_eq(fake_log(&f), "VM.clone [\"OpaqueRef:vm1\",\"x\"]\n");
    cr_expect(eq(int, fake_run(&f, "vm-pause name-label=web1 --multiple --async"), 0));
    cr_expect_eq(strstr(fake_out(&f), "operation failed"), NULL);
}

Test(view, wait_gives_up_after_its_time_and_leaves_the_task)
{
    json_object_set_new(f.answers, "event.from",
                        json_pack("{s:s,s:[{s:s,s:s,s:{s:s}}]}", "token", "1", "events", "ref",
                                  "OpaqueRef:made-1", "operation", "mod", "snapshot", "status", "pending"));
    cr_expect(eq(int, fake_run(&f, "vm-pause uuid=" VM3 " --wait=0"), XE_EXIT_UNFINISHED));
    cr_expect_str_eq(fake_err(&f), "The task goes on; this waits for it: xe task-wait uuid=made-uuid-1\n");
    cr_expect_eq(strstr(fake_log(&f), "task."), NULL);
    json_object_del(f.answers, "event.from");
    cr_expect(eq(int, fake_run(&f, "vm-pause uuid=" VM3 " --wait"), 0));
}

Test(view, states_and_failures_have_colours_where_there_are_any)
{
    f.colours = true;
    cr_expect(eq(int, fake_run(&f, "vm-list uuid=" VM2 " params=power-state"), 0));
    cr_expect_str_eq(fake_out(&f), "power-state ( RO)    : <1>running<0>\n\n\n");
    cr_expect(eq(int, fake_run(&f, "vm-start vm=nobody"), 1));
    cr_expect_str_eq(fake_err(&f), "<2>Error: No matching VMs found\n<0>");
}
