/* Commands with steps of their own: which calls they make, in which order, and what a failure leaves. */
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
TestSuite(commands, .init = setup, .fini = teardown);

#define DOES(line, log, text)                                                                                \
    do {                                                                                                     \
        cr_expect(eq(int, fake_run(&f, line), 0), "%s: %s", line, fake_err(&f));                             \
        cr_expect_str_eq(fake_log(&f), log);                                                                 \
        cr_expect_str_eq(fake_out(&f), text);                                                                \
    } while (0)
#define FAILS(line, text)                                                                                    \
    do {                                                                                                     \
        cr_expect(eq(int, fake_run(&f, line), 1), "%s", line);                                               \
        cr_expect_str_eq(fake_err(&f), text);                                                                \
    } while (0)

Test(commands, selectors)
{
    DOES("vm-start uuid=00000061-0000-4000-8000-000000000000",
         "VM.start [\"OpaqueRef:vm1\",false,false]\ntask.destroy [\"OpaqueRef:made-1\"]\n", "");
    DOES("vm-start vm=00000063-0000-4000-8000-000000000000 --force paused=true",
         "VM.start [\"OpaqueRef:vm3\",true,true]\ntask.destroy [\"OpaqueRef:made-2\"]\n", "");
    DOES(
        "vm-start power-state=running on=node2.example",
        "VM.start_on [\"OpaqueRef:vm2\",\"OpaqueRef:h2\",false,false]\ntask.destroy [\"OpaqueRef:made-3\"]\n",
        "");
    FAILS("vm-start vm=none", "Error: No matching VMs found\n");
    FAILS("vm-start vm=Tiny", "Error: No matching VMs found\n");
    FAILS("vm-start vm=web1",
          "Error: Multiple matches found. --multiple required to complete the operation\n");
    FAILS("host-disable host=none", "Error: No matching hosts found\n");
    DOES("vm-pause vm=web1 --multiple",
         "VM.pause [\"OpaqueRef:vm1\"]\ntask.destroy [\"OpaqueRef:made-4\"]\n"
         "VM.pause [\"OpaqueRef:vm3\"]\ntask.destroy [\"OpaqueRef:made-5\"]\n",
         "");
    DOES("host-disable host=node1.example",
         "host.disable [\"OpaqueRef:h1\"]\ntask.destroy [\"OpaqueRef:made-6\"]\n", "");
}

Test(commands, with_several_objects_failures_are_told_one_by_one)
{
    json_object_set_new(f.errors, "VM.pause", json_pack("[s,s]", "OPERATION_NOT_ALLOWED", "no"));
    cr_expect(eq(int, fake_run(&f, "vm-pause vm=web1 --multiple"), 1));
    cr_expect_str_eq(
        fake_out(&f),
        "operation failed on 00000061-0000-4000-8000-000000000000: The operation is not allowed. "
        "OPERATION_NOT_ALLOWED: no\n"
        "operation failed on 00000063-0000-4000-8000-000000000000: The operation is not allowed. "
        "OPERATION_NOT_ALLOWED: no\n");
}

Test(commands, an_error_names_its_parameters)
{
    json_object_set_new(f.errors, "VM.start",
                        json_pack("[s,s,s,s]", "VM_BAD_POWER_STATE", "OpaqueRef:vm1", "halted", "running"));
    FAILS("vm-start uuid=00000061-0000-4000-8000-000000000000",
          "The VM is not in the power state that this needs. (VM_BAD_POWER_STATE)\n"
          "vm: 00000061-0000-4000-8000-000000000000 (web1)\n"
          "expected: halted\n"
          "actual: running\n");
    json_object_set_new(f.errors, "VM.start", json_pack("[s,s]", "A_NEW_ERROR", "x"));
    FAILS("vm-start uuid=00000061-0000-4000-8000-000000000000",
          "Error code: A_NEW_ERROR\nError parameters: x\n");
    json_object_set_new(f.errors, "VM.start",
                        json_pack("[s,s,s,s]", "SR_BACKEND_FAILURE_46", "", "no room", ""));
    cr_expect(eq(int, fake_run(&f, "vm-start uuid=00000061-0000-4000-8000-000000000000"), 1));
    cr_expect_not_null(strstr(fake_err(&f), "no room"));
}

Test(commands, switches_choose_the_call)
{
    DOES("vm-shutdown vm='web, two \\ 2'",
         "VM.clean_shutdown [\"OpaqueRef:vm2\"]\ntask.destroy [\"OpaqueRef:made-1\"]\n", "");
    DOES("vm-shutdown vm='web, two \\ 2' force=true",
         "VM.hard_shutdown [\"OpaqueRef:vm2\"]\ntask.destroy [\"OpaqueRef:made-2\"]\n", "");
    FAILS("vm-shutdown vm='web, two \\ 2' force=maybe", "Error: force must be true or false, not 'maybe'\n");
}

Test(commands, install_clones_and_provisions)
{
    DOES("vm-install template=Tiny new-name-label=web9",
         "VM.clone [\"OpaqueRef:tpl\",\"web9\"]\n"
         "task.destroy [\"OpaqueRef:made-2\"]\n"
         "VM.set_name_description [\"OpaqueRef:made-1\",\"Installed via xe CLI\"]\n"
         "VM.remove_from_other_config [\"OpaqueRef:made-1\",\"disks\"]\n"
         "VM.add_to_other_config [\"OpaqueRef:made-1\",\"disks\",\"<provision><disk device=\\\"0\\\" "
         "size=\\\"8589934592\\\" "
         "sr=\\\"00000021-0000-4000-8000-000000000000\\\" bootable=\\\"true\\\"/></provision>\"]\n"
         "VM.provision [\"OpaqueRef:made-1\"]\n"
         "task.destroy [\"OpaqueRef:made-3\"]\n",
         "made-uuid-1\n");
    cr_expect(eq(
        int,
        fake_run(
            &f,
            "vm-install template=00000064-0000-4000-8000-000000000000 new-name-label=b sr-name-label=isos"),
        0));
    cr_expect_not_null(strstr(fake_log(&f), "VM.copy [\"OpaqueRef:tpl\",\"b\",\"OpaqueRef:sr2\"]\n"));
    cr_expect_not_null(strstr(fake_log(&f), "VM.set_suspend_SR [\"OpaqueRef:made-4\",\"OpaqueRef:sr2\"]\n"));
    cr_expect_not_null(strstr(fake_log(&f), "sr=\\\"00000022-"));
    FAILS("vm-install template=web1 new-name-label=x",
          "Error: No templates matched 'web1'; 'xe template-list' shows those there are\n");
}

Test(commands, install_tells_cloud_init)
{
    cr_expect(eq(int,
                 fake_run(&f, "vm-install template=Tiny new-name-label=web9 cloud-init-user=ann "
                              "cloud-init-ip=192.0.2.10/24,192.0.2.1"),
                 0));
    cr_expect_not_null(strstr(fake_log(&f),
                              "VM.remove_from_other_config [\"OpaqueRef:made-1\",\"cloud-init:user\"]\n"
                              "VM.add_to_other_config [\"OpaqueRef:made-1\",\"cloud-init:user\",\"ann\"]\n"
                              "VM.remove_from_other_config [\"OpaqueRef:made-1\",\"cloud-init:address\"]\n"
                              "VM.add_to_other_config [\"OpaqueRef:made-1\",\"cloud-init:address\","
                              "\"192.0.2.10/24,192.0.2.1\"]\n"
                              "VM.provision"));
}

Test(commands, only_an_installer_takes_a_preseed_file)
{
    FAILS("vm-install template=Tiny new-name-label=web9 preseed=http://192.0.2.1/a",
          "Error: the template starts no installer that a preseed file could be for\n");
    FAILS("vm-install template=Tiny new-name-label=web9 'preseed=http://192.0.2.1/a b'",
          "Error: preseed is an address: http, https, tftp or ftp, without blanks\n");
    FAILS("vm-install template=Tiny new-name-label=web9 preseed=file:/etc/passwd",
          "Error: preseed is an address: http, https, tftp or ftp, without blanks\n");
}

Test(commands, a_failed_install_leaves_nothing)
{
    json_object_set_new(f.errors, "VM.provision", json_pack("[s,s,s]", "SR_FULL", "10", "5"));
    FAILS("vm-install template=Tiny new-name-label=web9",
          "The SR has not enough room. (SR_FULL)\nrequested: 10\nmaximum: 5\n");
    cr_expect_not_null(strstr(fake_log(&f), "VM.destroy [\"OpaqueRef:made-1\"]\n"));
}

Test(commands, uninstall_asks_and_destroys_own_disks_only)
{
    f.answer = "no";
    cr_expect(eq(int, fake_run(&f, "vm-uninstall uuid=00000061-0000-4000-8000-000000000000"), 1));
    cr_expect_str_eq(fake_out(&f), "The following items are about to be destroyed\n"
                                   "VM: 00000061-0000-4000-8000-000000000000 (web1)\n"
                                   "VDI: 00000041-0000-4000-8000-000000000000 (root)\n"
                                   "Type 'yes' to continue\n");
    cr_expect_str_eq(fake_log(&f), "");
    f.answer = "yes";
    cr_expect(eq(int, fake_run(&f, "vm-uninstall uuid=00000061-0000-4000-8000-000000000000"), 0));
    cr_expect_str_eq(fake_log(&f), "VM.destroy [\"OpaqueRef:vm1\"]\ntask.destroy [\"OpaqueRef:made-1\"]\n"
                                   "VDI.destroy [\"OpaqueRef:vdi1\"]\ntask.destroy [\"OpaqueRef:made-2\"]\n");
    f.answer = NULL;
    DOES("vm-uninstall vm='web, two \\ 2' force=true",
         "VM.hard_shutdown [\"OpaqueRef:vm2\"]\ntask.destroy [\"OpaqueRef:made-3\"]\n"
         "VM.destroy [\"OpaqueRef:vm2\"]\ntask.destroy [\"OpaqueRef:made-4\"]\n",
         "The following items are about to be destroyed\n"
         "VM: 00000062-0000-4000-8000-000000000000 (web, two \\ 2)\n"
         "All objects destroyed\n");
}

Test(commands, ctrl_c_cancels_the_task_and_waits_for_its_end)
{
    f.interrupt = true;
    json_object_set_new(f.errors, "VM.pause", json_pack("[s,s]", "TASK_CANCELLED", "OpaqueRef:x"));
    cr_expect(
        eq(int, fake_run(&f, "vm-pause uuid=00000063-0000-4000-8000-000000000000"), XE_EXIT_INTERRUPTED));
    cr_expect_str_eq(fake_log(&f), "VM.pause [\"OpaqueRef:vm3\"]\ntask.cancel [\"OpaqueRef:made-1\"]\n"
                                   "task.destroy [\"OpaqueRef:made-1\"]\n");
    cr_expect_not_null(strstr(fake_err(&f), "The task was cancelled.\n"));
}

Test(commands, transfers)
{
    DOES("vdi-import uuid=00000041-0000-4000-8000-000000000000 filename=disk.raw",
         "task.create [\"Importing\",\"disk.raw\"]\n"
         "PUT disk.raw /import_raw_vdi?vdi=OpaqueRef:vdi1&format=raw&task_id=OpaqueRef:made-1\n"
         "task.destroy [\"OpaqueRef:made-1\"]\n",
         "");
    cr_expect(
        eq(int, fake_run(&f, "vdi-import uuid=00000041-0000-4000-8000-000000000000 filename=disk.qcow2"), 1));
    cr_expect_not_null(
        strstr(fake_err(&f),
               "disk.qcow2 looks like qcow2: say format=qcow2, or format=raw to store it byte by byte\n"));
    DOES("vm-export uuid=00000063-0000-4000-8000-000000000000 filename=x.xva compress=zstd",
         "task.create [\"Exporting\",\"x.xva\"]\n"
         "PUT x.xva /export?ref=OpaqueRef:vm3&preserve_power_state=false&use_compression=zstd"
         "&task_id=OpaqueRef:made-2\n"
         "task.destroy [\"OpaqueRef:made-2\"]\n",
         "Export succeeded\n");
    DOES("vm-export uuid=00000063-0000-4000-8000-000000000000 filename=x.xva metadata=true",
         "task.create [\"Exporting\",\"x.xva\"]\n"
         "PUT x.xva /export_metadata?ref=OpaqueRef:vm3&preserve_power_state=false&export_snapshots=true"
         "&task_id=OpaqueRef:made-3\n"
         "task.destroy [\"OpaqueRef:made-3\"]\n",
         "Export succeeded\n");
    FAILS("vm-export uuid=00000063-0000-4000-8000-000000000000 filename=x compress=lzma",
          "Error: compress must be true, false, gzip or zstd, not 'lzma'\n");
    FAILS("vm-import filename=x url=http://x",
          "Error: vm-import takes filename or url, and with url no metadata alone\n");
    json_object_set_new(f.errors, "PUT", json_pack("[s,s,s]", "SR_FULL", "10", "5"));
    FAILS("vdi-import uuid=00000041-0000-4000-8000-000000000000 filename=d format=qcow2",
          "The SR has not enough room. (SR_FULL)\nrequested: 10\nmaximum: 5\n");
    cr_expect_not_null(strstr(fake_log(&f), "task.destroy"));
}

Test(commands, recovery_speaks_in_two_sessions)
{
    json_object_set_new(f.answers, "VDI.open_database", json_string("OpaqueRef:db"));
    json_object_set_new(f.answers, "VM.recover", json_string(""));
    json_object_set_new(f.answers, "session.logout", json_string(""));
    FAILS("vm-recover uuid=00000063-0000-4000-8000-000000000000",
          "Error: say which disk holds the database: database:vdi-uuid=UUID\n");
    json_object_set_new(f.errors, "VM.recover", json_pack("[s,s,s]", "VM_REQUIRES_SR", "v", "s"));
    cr_expect(eq(int,
                 fake_run(&f, "vm-recover uuid=00000063-0000-4000-8000-000000000000 "
                              "database:vdi-uuid=00000041-0000-4000-8000-000000000000 force=true"),
                 1));
    const char *at = strstr(fake_log(&f), "SESSION OpaqueRef:db\n");
    cr_assert_not_null(at, "%s", fake_log(&f));
    cr_expect_not_null(
        strstr(at, "VM.recover [\"OpaqueRef:vm3\",\"OpaqueRef:own\",true]\nsession.logout []\nSESSION own\n"),
        "%s", at);
}

Test(commands, an_interrupted_transfer_cancels_its_task)
{
    json_object_set_new(f.errors, "PUT", json_pack("[s]", "CANCELLED"));
    json_object_set_new(f.tables, "task", json_pack("{}"));
    json_object_set_new(f.answers, "task.cancel", json_string(""));
    json_object_set_new(f.answers, "event.from",
                        json_pack("{s:s,s:[{s:s,s:s,s:{s:s}}]}", "token", "", "events", "ref",
                                  "OpaqueRef:made-1", "operation", "mod", "snapshot", "status", "cancelled"));
    cr_expect(eq(int, fake_run(&f, "vdi-import uuid=00000041-0000-4000-8000-000000000000 filename=d"),
                 XE_EXIT_INTERRUPTED));
    cr_expect_not_null(strstr(fake_log(&f), "task.cancel [\"OpaqueRef:made-1\"]\n"));
    cr_expect_not_null(strstr(fake_log(&f), "task.destroy [\"OpaqueRef:made-1\"]\n"));
    cr_expect_str_eq(fake_err(&f), "Cancelled.\n");
}

Test(commands, rows_that_are_one_call)
{
    json_object_set_new(f.answers, "VM.snapshot_with_quiesce", json_string("OpaqueRef:snap"));
    DOES("vm-snapshot-with-quiesce uuid=00000061-0000-4000-8000-000000000000 new-name-label=s",
         "VM.snapshot_with_quiesce [\"OpaqueRef:vm1\",\"s\"]\ntask.destroy [\"OpaqueRef:made-1\"]\n",
         "00000065-0000-4000-8000-000000000000\n");
    DOES("host-set-power-on-mode host=node1 power-on-mode=wake-on-lan power-on-config:ip=10.0.0.1",
         "host.set_power_on_mode [\"OpaqueRef:h1\",\"wake-on-lan\",{\"ip\":\"10.0.0.1\"}]\n"
         "task.destroy [\"OpaqueRef:made-2\"]\n",
         "");
    DOES("host-enable-external-auth host-uuid=00000011-0000-4000-8000-000000000000 auth-type=AD "
         "service-name=s config:user=u --force",
         "host.enable_external_auth [\"OpaqueRef:h1\",{\"user\":\"u\"},\"s\",\"AD\"]\n", "");
    DOES("host-disable-external-auth host-uuid=00000011-0000-4000-8000-000000000000 --force",
         "host.disable_external_auth [\"OpaqueRef:h1\",{},true]\n", "");
    FAILS("host-disable-external-auth host-uuid=00000011-0000-4000-8000-000000000000",
          "Error: This operation is provided only to recover individual hosts that are unable to access the "
          "external authentication service. This operation must be forced (use --force).\n");
}

Test(commands, answers_that_map_objects_to_words)
{
    json_object_set_new(f.answers, "pool.retrieve_wlb_recommendations",
                        json_pack("{s[sss]}", "OpaqueRef:vm1", "WLB", "h", "3"));
    DOES("pool-retrieve-wlb-recommendations", "pool.retrieve_wlb_recommendations []\n",
         "VM                                             : Host, OptID, RecID, Reason\n"
         "    00000061-0000-4000-8000-000000000000 (web1): WLB h 3\n\n\n");
    json_object_set_new(f.answers, "pool.ha_compute_vm_failover_plan",
                        json_pack("{s{ss}s{ss}}", "OpaqueRef:vm1", "host", "OpaqueRef:h2", "OpaqueRef:vm3",
                                  "error_code", "NO_HOSTS_AVAILABLE"));
    cr_expect(eq(int,
                 fake_run(&f, "pool-ha-compute-vm-failover-plan "
                              "host-uuids=00000011-0000-4000-8000-000000000000"),
                 0));
    cr_expect_str_eq(fake_out(&f),
                     "VM                                             : Destination Host or Error\n"
                     "    00000061-0000-4000-8000-000000000000 (web1): "
                     "00000012-0000-4000-8000-000000000000 (node2)\n"
                     "    00000063-0000-4000-8000-000000000000 (web1): NO_HOSTS_AVAILABLE\n\n\n");
}

Test(commands, drives)
{
    DOES("vm-cd-insert uuid=00000061-0000-4000-8000-000000000000 cd-name=debian.iso",
         "VBD.insert [\"OpaqueRef:vbd2\",\"OpaqueRef:cd1\"]\ntask.destroy [\"OpaqueRef:made-1\"]\n", "");
    FAILS("vm-cd-insert uuid=00000061-0000-4000-8000-000000000000 cd-name=root",
          "Error: CD root not found; 'xe cd-list' shows those there are\n");
    FAILS("vm-cd-eject uuid=00000061-0000-4000-8000-000000000000", "Error: The VM has no CDs.\n");
    DOES("vm-disk-resize uuid=00000061-0000-4000-8000-000000000000 device=0 disk-size=2GiB",
         "VDI.resize [\"OpaqueRef:vdi1\",2147483648]\ntask.destroy [\"OpaqueRef:made-2\"]\n", "");
    FAILS("vm-disk-resize uuid=00000061-0000-4000-8000-000000000000 device=7 disk-size=2GiB",
          "Error: the VM has no disk 7; 'xe vm-disk-list' shows those it has\n");
    cr_expect(
        eq(int, fake_run(&f, "vm-disk-add uuid=00000061-0000-4000-8000-000000000000 device=1 disk-size=1MiB"),
           0));
    cr_expect_not_null(strstr(fake_log(&f), "\"virtual_size\":1048576"));
    cr_expect_not_null(strstr(fake_log(&f), "\"owner\":\"\""));
    DOES("cd-list --minimal params=name-label", "", "debian.iso\n");
    cr_expect(eq(int, fake_run(&f, "vm-disk-list uuid=00000061-0000-4000-8000-000000000000"), 0));
    cr_expect_str_eq(fake_out(&f), "Disk 0 VBD:\n"
                                   "uuid ( RO)             : 00000051-0000-4000-8000-000000000000\n"
                                   "    vm-name-label ( RO): web1\n"
                                   "       userdevice ( RW): 0\n"
                                   "\n"
                                   "\n"
                                   "Disk 0 VDI:\n"
                                   "uuid ( RO)             : 00000041-0000-4000-8000-000000000000\n"
                                   "       name-label ( RW): root\n"
                                   "    sr-name-label ( RO): disks\n"
                                   "     virtual-size ( RO): 1073741824\n"
                                   "\n"
                                   "\n");
}

Test(commands, rows_of_one_call)
{
    DOES("sr-create name-label=d type=file device-config:location=/srv/d",
         "SR.create [\"OpaqueRef:h1\",{\"location\":\"/srv/d\"},0,\"d\",\"\",\"file\",\"\",false]\n"
         "task.destroy [\"OpaqueRef:made-2\"]\n",
         "made-uuid-1\n");
    DOES("network-create name-label=backend",
         "network.create "
         "[{\"name_label\":\"backend\",\"name_description\":\"\",\"MTU\":1500,\"other_config\":{},"
         "\"bridge\":\"\",\"managed\":true,\"tags\":[]}]\n"
         "task.destroy [\"OpaqueRef:made-4\"]\n",
         "made-uuid-3\n");
    cr_expect(eq(int, fake_run(&f, "network-create name-label=x bogus=1"), 1));
    cr_expect_not_null(
        strstr(fake_err(&f), "Unknown parameter: bogus\nUsage: xe network-create name-label=<name-label>"));
    cr_expect(eq(int, fake_run(&f, "vdi-create sr=d name-label=x virtual-size=1"), 1));
    cr_expect_not_null(strstr(fake_err(&f), "Unknown parameter: sr\nDid you mean 'sr-uuid'?\n"));
    FAILS("vdi-destroy uuid=", "Error: uuid= is empty: what was to fill it found nothing\n");
    cr_expect_str_eq(fake_log(&f), "");
    DOES("token-create name=ci role=read-only days=7",
         "POST /api/v1/tokens {\"name\":\"ci\",\"role\":\"read-only\",\"days\":7}\n", "abc.def\n");
    DOES("token-revoke uuid=0a-1", "DELETE /api/v1/tokens/0a-1\n", "");
    FAILS("token-revoke uuid=../x", "Error: '../x' is no uuid: token-list shows them\n");
    FAILS("token-create name=ci days=soon", "Error: days is a number, not 'soon'\n");
    DOES("token-list --minimal", "GET /api/v1/tokens\n", "u-1\n");
    DOES("host-join-token", "POST /api/v1/join-tokens\n", "abc.def\n");
    DOES("console vm='web, two \\ 2'", "CONSOLE /console?uuid=00000082-0000-4000-8000-000000000000\n", "");
}

Test(commands, event_wait)
{
    DOES("event-wait class=vm name-label='web, two \\ 2' power-state=running", "", "");
    DOES("event-wait class=vm uuid=00000062-0000-4000-8000-000000000000 power-state=/=halted", "", "");
    FAILS("event-wait class=vm power-state=suspended timeout=0",
          "Error: no object fitted within the timeout\n");
    FAILS("event-wait class=vmm",
          "Error: there is no class 'vmm'; classes are named as in 'xe <class>-list'\n");
}

Test(commands, what_is_not_built_says_so)
{
    FAILS("diagnostic-net-stats", "Error: the command diagnostic-net-stats is not built yet\n");
    FAILS("--nosuch", "Syntax error: there is no command, only --nosuch\nFor usage run: 'xe help'\n");
    FAILS("vm-lst", "Unknown command: vm-lst\nDid you mean 'vm-list'?\nFor usage run: 'xe help'\n");
    FAILS("vm-list extra",
          "Syntax error: 'extra' is not a parameter; one reads name=value\nFor usage run: 'xe help'\n");
    FAILS("vm=x", "Syntax error: the command comes first, before vm=x\nFor usage run: 'xe help'\n");
}

Test(commands, help)
{
    cr_expect(eq(int, fake_run(&f, "help vm-install"), 0));
    cr_expect_not_null(
        strstr(fake_out(&f), "command name       : vm-install\n        reqd params: new-name-label\n"));
    cr_expect(eq(int, fake_run(&f, "help --minimal --all"), 0));
    cr_expect(strncmp(fake_out(&f), "appliance-assert-can-be-recovered,", 34) == 0);
    cr_expect_null(strstr(fake_out(&f), "blob-create"), "hidden commands are left out");
    cr_expect(eq(int, fake_run(&f, "help nothing"), 1));
    cr_expect_str_eq(fake_err(&f), "Unknown command 'nothing'\n");
    cr_expect(eq(int, fake_run(&f, "help --all"), 0));
    for (const char *line = fake_out(&f); *line;) {
        size_t n = strcspn(line, "\n");
        cr_expect(n <= 80, "%.*s", (int)n, line);
        line += n + (line[n] == '\n');
    }
}

Test(commands, every_command_explains_itself)
{
    struct xe_command_info info;
    size_t n = 0;
    for (; xe_command_info(n, &info); n++) {
        AUTO_FREE char *line = xasprintf("help %s", info.name);
        cr_expect(eq(int, fake_run(&f, line), 0));
        cr_expect_str_not_empty(info.help);
    }
    cr_expect(gt(sz, n, 670));
}
