/* Changing fields: which calls are made, and what is refused before any call. */
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
TestSuite(param, .init = setup, .fini = teardown);

#define VM1 "uuid=00000061-0000-4000-8000-000000000000 "
#define CALLS(line, log)                                                                                     \
    do {                                                                                                     \
        cr_expect(eq(int, fake_run(&f, line), 0), "%s", line);                                               \
        cr_expect_str_eq(fake_log(&f), log);                                                                 \
        cr_expect_str_eq(fake_err(&f), "");                                                                  \
    } while (0)
#define REFUSES(line, text)                                                                                  \
    do {                                                                                                     \
        cr_expect(eq(int, fake_run(&f, line), 1), "%s", line);                                               \
        cr_expect_str_eq(fake_err(&f), text);                                                                \
        cr_expect_str_eq(fake_log(&f), "");                                                                  \
    } while (0)

Test(param, set_converts_by_type)
{
    CALLS("vm-param-set " VM1
          "name-label='new name' VCPUs-max=4 is-a-template=yes HVM-shadow-multiplier=1.5 name-description=",
          "VM.set_name_label [\"OpaqueRef:vm1\",\"new name\"]\n"
          "VM.set_VCPUs_max [\"OpaqueRef:vm1\",4]\n"
          "VM.set_is_a_template [\"OpaqueRef:vm1\",true]\n"
          "VM.set_HVM_shadow_multiplier [\"OpaqueRef:vm1\",1.5]\n"
          "VM.set_name_description [\"OpaqueRef:vm1\",\"\"]\n");
    CALLS("vm-param-set " VM1 "actions-after-crash='rename restart'",
          "VM.set_actions_after_crash [\"OpaqueRef:vm1\",\"rename_restart\"]\n");
    CALLS("vm-param-set " VM1 "affinity=00000011-0000-4000-8000-000000000000 suspend-SR-uuid=",
          "VM.set_affinity [\"OpaqueRef:vm1\",\"OpaqueRef:h1\"]\n"
          "VM.set_suspend_SR [\"OpaqueRef:vm1\",\"OpaqueRef:NULL\"]\n");
}

Test(param, set_of_a_map_key_removes_and_adds)
{
    CALLS("vm-param-set " VM1 "other-config:role=db other-config-new=1",
          "VM.remove_from_other_config [\"OpaqueRef:vm1\",\"role\"]\n"
          "VM.add_to_other_config [\"OpaqueRef:vm1\",\"role\",\"db\"]\n"
          "VM.add_to_other_config [\"OpaqueRef:vm1\",\"new\",\"1\"]\n");
    CALLS("vm-param-set " VM1 "bios-strings:bios-vendor=A bios-strings:bios-version=2",
          "VM.set_bios_strings [\"OpaqueRef:vm1\",{\"bios-vendor\":\"A\",\"bios-version\":\"2\"}]\n");
}

Test(param, nothing_is_changed_when_one_value_is_wrong)
{
    REFUSES("vm-param-set " VM1 "name-label=x VCPUs-max=many",
            "Error: VCPUs-max must be a whole number, not 'many'\n");
    REFUSES("vm-param-set " VM1 "name-label=x uuid=y power-state=running",
            "Error: Field 'power-state' is read-only.\n");
    REFUSES("vm-param-set " VM1 "tags=a", "Error: Field 'tags' is a set: use param-add and param-remove.\n");
    REFUSES("vm-param-set " VM1 "other-config=a",
            "Error: Field 'other-config' is a map: say other-config:key=value.\n");
    cr_expect(eq(int, fake_run(&f, "vm-param-set " VM1), 1));
    cr_expect_not_null(strstr(fake_err(&f), "Required parameter not found: the field to set"));
    cr_expect(eq(int, fake_run(&f, "vm-param-set " VM1 "bogus=1"), 1));
    cr_expect_str_eq(fake_log(&f), "");
}

Test(param, add_and_remove)
{
    CALLS("vm-param-add " VM1 "param-name=tags param-key=c", "VM.add_tags [\"OpaqueRef:vm1\",\"c\"]\n");
    CALLS("vm-param-remove " VM1 "param-name=tags param-key=a", "VM.remove_tags [\"OpaqueRef:vm1\",\"a\"]\n");
    CALLS("vm-param-add " VM1 "param-name=other-config k=v",
          "VM.add_to_other_config [\"OpaqueRef:vm1\",\"k\",\"v\"]\n");
    CALLS("vm-param-remove " VM1 "param-name=other-config param-key=k",
          "VM.remove_from_other_config [\"OpaqueRef:vm1\",\"k\"]\n");
    REFUSES("vm-param-remove " VM1 "param-name=other-config param-key=none",
            "Error: Key none not found in map\n");
    REFUSES("vm-param-remove " VM1 "param-name=tags param-key=none", "Error: Key none not found in set\n");
    cr_expect(eq(int, fake_run(&f, "vm-param-add " VM1 "param-name=other-config role=2"), 1));
    cr_expect_not_null(strstr(fake_err(&f), "The key is in the map already. (MAP_DUPLICATE_KEY)\n"));
    cr_expect_str_eq(fake_log(&f), "");
}

Test(param, clear)
{
    CALLS("vm-param-clear " VM1 "param-name=other-config", "VM.set_other_config [\"OpaqueRef:vm1\",{}]\n");
    CALLS("vm-param-clear " VM1 "param-name=tags", "VM.set_tags [\"OpaqueRef:vm1\",[]]\n");
    CALLS("vm-param-clear " VM1 "param-name=name-description",
          "VM.set_name_description [\"OpaqueRef:vm1\",\"\"]\n");
    REFUSES("vm-param-clear " VM1 "param-name=allowed-operations",
            "Error: Field 'allowed-operations' is read-only.\n");
}
