/* Guests of older toolstacks: what their files become, what is told, and what is refused. */
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <guests.h>
#include <stdio.h>
#include <unistd.h>
#include <vmdk.h>

/* A member by a path like "disks/0/format" as text (the caller's); notes as "key=value". */
static char *at(const json_t *guest, const char *path)
{
    AUTO_FREE char *copy = xstrdup(path);
    char *rest = copy, *part;
    const json_t *now = guest;
    while ((part = strsep(&rest, "/")))
        now = json_is_array(now) ? json_array_get(now, (size_t)atoi(part)) : json_object_get(now, part);
    if (json_is_string(now))
        return xstrdup(json_string_value(now));
    return now ? json_dumps(now, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : xstrdup("missing");
}

struct row {
    const char *text, *path, *expected; /* path NULL: refused with this problem */
};

static void check(json_t *(*reader)(const char *, size_t, char **), const char *before, const char *after,
                  const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *problem = NULL, *text = xasprintf("%s%s%s", before, rows[i].text, after),
                       *found = NULL;
        AUTO_JSON json_t *guest = reader(text, strlen(text), &problem);
        found = !guest ? xstrdup(problem) : rows[i].path ? at(guest, rows[i].path) : xstrdup("taken");
        cr_expect_str_eq(found, rows[i].expected, "%s\n  %s: %s, not %s", rows[i].text,
                         rows[i].path ? rows[i].path : "", found, rows[i].expected);
        cr_expect_eq(!guest, !rows[i].path, "%s", rows[i].text);
    }
}

/* ---- xl ---- */

static const struct row xl_rows[] = {
    {"memory = 256", "memory", "268435456"},
    {"memory = '256'\nmaxmem = 0x200", "memory_max", "536870912"},
    {"vcpus = 2; maxvcpus = 4 # more", "vcpus_max", "4"},
    {"type = \"pvh\"", "type", "pvh"},
    {"builder = 'hvm'", "type", "hvm"},
    {"builder = 'linux'", "type", "pv"},
    {"kernel = '/usr/lib/xen/boot/hvmloader'", "type", "hvm"},
    {"root = '/dev/xvda ro'\nextra = 'quiet'", "args", "root=/dev/xvda ro quiet"},
    {"bootloader = '/usr/bin/pygrub'", "bootloader", "pygrub"},
    {"bootloader = '/bin/sh'", "notes/0/key", "bootloader"},
    {"firmware = 'ovmf'", "firmware", "uefi"},
    {"boot = 'nad'", "boot", "nd"},
    {"boot = 'nad'", "notes/0/key", "boot"},
    {"on_crash = 'coredump-restart'", "on_crash", "coredump_and_restart"},
    {"on_shutdown = 'restart'", "on_poweroff", "restart"},
    {"cpu_cap = 50", "vcpus_params/cap", "50"},
    {"on_reboot = 'preserve'", "notes/0/value", "preserve"},
    {"cpus = '0,2'\ncpu_weight = 512", "vcpus_params", "{\"mask\":\"0,2\",\"weight\":\"512\"}"},
    {"acpi = 1\npae = 0\nnestedhvm = 1\nvideoram = 16\nviridian = ['base']\nstdvga = 0", "platform",
     "{\"acpi\":\"true\",\"nested-virt\":\"true\",\"pae\":\"false\",\"vga\":\"cirrus\",\"videoram\":\"16\","
     "\"viridian\":\"true\"}"},
    {"vncpasswd = 'secret'", "notes/0/value", "..."},
    {"vfb = ['vncpasswd=a\\\"b,vnc=1', 'sdl=1']", "notes/0/value", "[\"vncpasswd=...,vnc=1\",\"sdl=1\"]"},
    {"nomigrate = 'maybe'", "notes/0/key", "nomigrate"},
    {"viridian = 'maybe'", "notes/0/key", "viridian"},
    {"stdvga = 'maybe'", "notes/0/key", "stdvga"},
    {"cap = 'much'", NULL, "cap: a number belongs there"},
    {"colour = 'red'", "notes/0/why", "it is no documented key of xl or xm"},
    {"uuid = 'x'", "notes/0/why", "the VM gets an identity of its own"},
    /* Disks, in each way to write them. */
    {"disk = ['/dev/vg/lv,raw,xvda,rw']", "disks/0",
     "{\"cdrom\":false,\"device\":\"xvda\",\"format\":\"raw\",\"number\":0,\"path\":\"/dev/vg/"
     "lv\",\"readonly\":false}"},
    {"disk = ['format=qcow2, vdev=hdb, access=ro, target=/a,b=c']", "disks/0",
     "{\"cdrom\":false,\"device\":\"hdb\",\"format\":\"qcow2\",\"number\":1,\"path\":\"/"
     "a,b=c\",\"readonly\":true}"},
    {"disk = ['phy:/dev/x,sdc,w']", "disks/0/number", "2"},
    {"disk = ['tap2:aio:/img,xvdb,r']", "disks/0/readonly", "true"},
    {"disk = ['file:/a.iso,hdc:cdrom,r']", "disks/0/cdrom", "true"},
    {"disk = ['/a.iso,,hdc,cdrom', ',,hdd,cdrom']", "disks/1/path", ""},
    {"disk = ['qcow2:/a,xvda,w',\n # two\n  'vhd:/b,xvdb,w' ,]", "disks/1/format", "vhd"},
    {"disk = ['script=block-iscsi,vdev=xvda,target=/x']", "notes/0/why",
     "script: no program of the old host is run"},
    {"disk = ['/a,raw,xvda,discard,w,untrusted']", "notes/1/value", "untrusted"},
    {"disk = ['/a,raw,xvda,devtype=tape']", "notes/0/value", "devtype=tape"},
    {"disk = ['/a,raw,xvda,access=x']", "notes/0/value", "access=x"},
    {"disk = ['/a,raw,xvda1,w']", NULL,
     "disk: a device is called like xvda, hdb, sdc or vdd; partitions cannot be taken over"},
    {"disk = ['relative,raw,xvda,w']", NULL, "disk: the file needs its whole path, from /"},
    {"disk = ['/a']", NULL, "disk: the device (vdev) is missing"},
    {"disk = ['/a,raw,xvda,w,1,2']", NULL, "disk: there are too many parts between commas"},
    {"disk += ['/a,raw,xvda,w']\ndisk += ['/b,raw,xvdb,w']", "disks/1/path", "/b"},
    /* Network cards. */
    {"vif = ['mac=00:16:3e:00:00:01, bridge=br0, mtu=9000', '']", "nics/0",
     "{\"bridge\":\"br0\",\"kbps\":0,\"mac\":\"00:16:3e:00:00:01\",\"mtu\":9000,\"network\":\"\",\"number\":"
     "0}"},
    {"vif = ['rate=8Mb/s']", "nics/0/kbps", "976"},
    {"vif = ['rate=1MB/s@20ms,model=e1000']", "platform/nic_type", "e1000"},
    {"vif = ['rate=1MB/s@20ms']", "notes/0/value", "rate=1MB/s@20ms"},
    {"vif = ['mtu=1400 , bridge=br0']", "nics/0/mtu", "1400"},
    {"vif = ['mtu=9']", "notes/0/value", "mtu=9"},
    {"vif = ['ip=10.0.0.2']", "notes/0/value", "ip=10.0.0.2"},
    {"nics = 2", "nics/1/number", "1"},
    /* Python, read and not run. */
    {"import os\nmemory = 128", "notes/0/key", "line 2"},
    {"if 1:\n    memory = 1\nelse:\n    memory = 2\nvcpus = 3", "memory", "missing"},
    {"if 1:\n    memory = 1\nvcpus = 3", "vcpus", "3"},
    {"lib = 'lib' + arch", "notes/0/value", "'lib' + arch"},
    {"on_crash = 'coredump-' + 'restart'", "on_crash", "coredump_and_restart"},
    {"memory = 64 * 2", NULL, "line 2: memory is computed (64 * 2); write its value out"},
    {"disk = ['phy:%s,xvda,w' % dev]", NULL, "disk: a disk is computed; write it out"},
    {"apic = True\nnx = False", "platform/nx", "false"},
    {"description = '''two\nlines'''", "description", "two\nlines"},
    {"description = \"\\x41\\101\\n\\q\"", "description", "AA\n\\q"},
    {"kernel = None", "kernel", "missing"},
    /* What is no such file. */
    {"memory = ", NULL, "line 2: a value is missing"},
    {"disk = ['a'", NULL, "line 2: a list is not closed"},
    {"kernel = 'a", NULL, "line 2: a text has no closing quote"},
    {"= 3", NULL, "line 2: an assignment like name = value belongs here"},
    {"x = [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", NULL, "line 2: lists are nested too deep"},
    {"memory = 0", NULL, "memory: a number of MiB belongs there"},
    {"name = 3.5.6", NULL, "line 2: name is computed (3.5.6); write its value out"},
};

Test(guests, xl)
{
    check(guest_from_xl, "name = 'g'\n", "", xl_rows, ARRAY_LEN(xl_rows));
    AUTO_FREE char *problem = NULL;
    cr_expect_null(guest_from_xl("memory = 1", 10, &problem));
    cr_expect_str_eq(problem, "name is missing");
}

/* ---- libvirt ---- */

static const struct row libvirt_rows[] = {
    {"<memory unit='GiB'>1</memory>", "memory", "1073741824"},
    {"<memory>1048576</memory><currentMemory unit='MiB'>512</currentMemory>", "memory", "536870912"},
    {"<memory unit='furlong'>1</memory>", NULL, "memory: it is no amount of memory"},
    {"<vcpu current='1' cpuset='0-1'>4</vcpu>", "vcpus", "1"},
    {"<vcpu cpuset='0-1'>4</vcpu>", "vcpus_params/mask", "0-1"},
    {"<os firmware='efi'><type arch='x86_64'>hvm</type><boot dev='network'/><boot dev='hd'/></os>", "boot",
     "nc"},
    {"<os firmware='efi'/>", "firmware", "uefi"},
    {"<os><loader type='pflash'>/x</loader><nvram>/y</nvram></os>", "notes/1/key", "os/nvram"},
    {"<os><kernel>/k</kernel><initrd>/i</initrd><cmdline>quiet</cmdline></os>", "args", "quiet"},
    {"<features><acpi/><hyperv/><smm state='on'/></features>", "platform",
     "{\"acpi\":\"true\",\"viridian\":\"true\"}"},
    {"<clock offset='localtime'/>", "notes/0/value", "offset=localtime"},
    {"<clock offset='variable' adjustment='-3600'/>", "platform/timeoffset", "-3600"},
    {"<on_crash>preserve</on_crash>", "on_crash", "preserve"},
    {"<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a&amp;b'/>"
     "<target dev='vdb' bus='virtio'/></disk></devices>",
     "disks/0",
     "{\"cdrom\":false,\"device\":\"vdb\",\"format\":\"qcow2\",\"number\":1,\"path\":\"/"
     "a&b\",\"readonly\":false}"},
    {"<devices><disk type='block'><source dev='/dev/x'/><target "
     "dev='sda'/><readonly/><serial>1</serial></disk></devices>",
     "notes/0/key", "devices/disk/serial"},
    {"<devices><disk device='cdrom'><target dev='hdc'/></disk></devices>", "disks/0/cdrom", "true"},
    {"<devices><disk type='network'><source protocol='rbd'/><target dev='vda'/></disk></devices>",
     "notes/0/why", "only files and block devices are taken over: attach the disk by hand"},
    {"<devices><disk type='file'><source file='/a'/></disk></devices>", NULL,
     "devices/disk: the target has no name like vda, sdb, hdc or xvdd"},
    {"<devices><interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><mtu "
     "size='1400'/>"
     "<model type='virtio'/></interface></devices>",
     "nics/0",
     "{\"bridge\":\"br0\",\"kbps\":0,\"mac\":\"52:54:00:00:00:01\",\"mtu\":1400,\"network\":\"\",\"number\":"
     "0}"},
    {"<devices><graphics type='vnc' passwd='secret'/></devices>", "notes/0/value", "type=vnc passwd=..."},
    {"<devices><flux/></devices>", "notes/0/why", "it is no documented element"},
    {"<uuid>x</uuid>", "notes/0/key", "uuid"},
    {"<cpu mode='custom'><model fallback='allow'>x</model><feature name='a'/><feature "
     "name='b'/><topology/></cpu>",
     "notes/0/value", "mode=custom model/fallback=allow model=x feature/name=a feature/name=b topology"},
    {"<vcpu current='9' cpuset='^1'>4</vcpu>", "notes/0/value", "current=9 cpuset=^1"},
    {"<vcpu>1</vcpu><vcpu>2</vcpu>", "notes/0/why", "it is said before"},
    {"<vcpu>1</vcpu><vcpu>2</vcpu>", "vcpus", "1"},
    {"<vcpu>2x</vcpu>", NULL, "vcpu: it is no number of processors"},
    {"<os><type arch='aarch64' machine='virt'>hvm</type></os>", "notes/0/value", "arch=aarch64 machine=virt"},
    {"<os><type>exe</type></os>", "notes/0/key", "os/type"},
    {"<os><root>/dev/a</root><cmdline>quiet</cmdline></os>", "args", "root=/dev/a quiet"},
    {"<features><hyperv mode='custom'><relaxed state='on'/></hyperv></features>", "notes/1/key",
     "features/hyperv/relaxed"},
    {"<devices><interface type='direct'><mac address='52:54:00:00:00:01'/><source dev='eth0'/><mtu size='9'/>"
     "</interface></devices>",
     "notes",
     "[{\"key\":\"devices/interface\",\"value\":\"type=direct\",\"why\":\"the card is connected to one of "
     "the "
     "pool's networks instead\"},{\"key\":\"devices/interface/mtu\",\"value\":\"size=9\",\"why\":\"it is no "
     "size "
     "of packets\"},{\"key\":\"devices/interface/source\",\"value\":\"dev=eth0\",\"why\":\"it has no place "
     "here\"}]"},
    {"<devices><disk type='file'><driver name='qemu' type='vpc' cache='none'/><source file='/a'/><target "
     "dev='vda' "
     "bus='sata'/></disk></devices>",
     "disks/0/format", "vhd"},
    {"<clock> a <timer name='hpet' present='no'/> b </clock>", "notes/0/value", "a b"},
    {"<a>", NULL, "line 1: mismatched tag"},
};

Test(guests, libvirt)
{
    check(guest_from_libvirt, "<domain type='kvm'><name>g</name>", "</domain>", libvirt_rows,
          ARRAY_LEN(libvirt_rows));
}

Test(guests, libvirt_without_entities_and_bounds)
{
    AUTO_FREE char *deep = xcalloc(1, 400), *one = NULL, *two = NULL, *three = NULL, *four = NULL;
    static const char bomb[] =
        "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><name>&a;</name></domain>";
    cr_expect_null(guest_from_libvirt(bomb, strlen(bomb), &one));
    cr_expect_str_eq(one, "line 1: a document type is not accepted");
    for (int i = 0; i < 100; i++)
        strcat(deep, "<a>");
    cr_expect_null(guest_from_libvirt(deep, strlen(deep), &two));
    cr_expect_str_eq(two, "line 1: this is larger or deeper than any domain");
    cr_expect_null(guest_from_libvirt("<vm/>", 5, &three));
    cr_expect_str_eq(three, "it is a <vm>, not a <domain>");
    cr_expect_null(guest_from_libvirt("<domain/>", 9, &four));
    cr_expect_str_eq(four, "name is missing");
}

/* ---- OVF ---- */

static char *vmware(size_t *len)
{
    char *text = file_read(TEST_CORPUS "/ovf/vmware.ovf", 1 << 20, len);
    cr_assert(text);
    return text;
}

Test(guests, ovf)
{
    size_t len;
    AUTO_FREE char *text = vmware(&len), *problem = NULL;
    AUTO_JSON json_t *guest = guest_from_ovf(text, len, &problem);
    cr_assert(guest, "%s", problem);
    AUTO_JSON json_t *wanted = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:I, s:{}, s:{}, "
        "s:[{s:s, s:i, s:s, s:s, s:b, s:b, s:i}, {s:s, s:i, s:s, s:s, s:b, s:b, s:i}, {s:s, s:i, s:s, s:s, "
        "s:b, s:b}], "
        "s:[{s:i, s:s, s:s, s:s, s:i, s:i}], s:[{s:s, s:s, s:s}]}",
        "name", "web & more", "description", "the web server", "type", "hvm", "firmware", "uefi", "vcpus", 2,
        "memory", (json_int_t)256 << 20, "platform", "vcpus_params", "disks", //
        "device", "xvda", "number", 0, "path", "web-disk1.vmdk", "format", "vmdk", "cdrom", 0, "readonly", 0,
        "size",
        3 << 20, //
        "device", "xvdb", "number", 1, "path", "", "format", "vmdk", "cdrom", 0, "readonly", 0, "size",
        1 << 30,                                                                               //
        "device", "xvdc", "number", 2, "path", "", "format", "raw", "cdrom", 1, "readonly", 1, //
        "nics", "number", 0, "mac", "02:00:00:00:00:09", "bridge", "", "network", "VM Network", "mtu", 0,
        "kbps", 0, "notes", "key", "Sound", "value", "", "why", "no such device exists here");
    cr_assert(wanted);
    AUTO_FREE char *got = json_dumps(guest, JSON_SORT_KEYS);
    cr_expect(json_equal(guest, wanted), "%s", got);
}

/* What is written is read as the same machine. */
Test(guests, ovf_there_and_back)
{
    AUTO_FREE char *problem = NULL;
    AUTO_JSON json_t *guest = json_pack(
        "{s:s, s:s, s:i, s:I, s:s, s:[{s:s, s:b, s:i}, {s:s, s:b, s:i}], s:[{s:s, s:s}, {s:s, s:s}]}", "name",
        "a <b> & \"c\"", "description", "", "vcpus", 3, "memory", (json_int_t)512 << 20, "firmware", "uefi",
        "disks", "path", "disk0.vmdk", "cdrom", 0, "size", 1 << 20, "path", "", "cdrom", 1, "size", 0, "nics",
        "mac", "02:00:00:00:00:01", "network", "n & m", "mac", "02:00:00:00:00:02", "network", "n & m");
    AUTO_FREE char *text = guest_to_ovf(guest);
    AUTO_JSON json_t *back = guest_from_ovf(text, strlen(text), &problem);
    cr_assert(back, "%s in %s", problem, text);
    static const char *const same[] = {"name", "description", "vcpus", "memory", "firmware"};
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        cr_expect(json_equal(json_object_get(guest, same[i]), json_object_get(back, same[i])), "%s", same[i]);
    static const struct {
        const char *path, *value;
    } rows[] = {{"disks/0/path", "disk0.vmdk"},      {"disks/0/size", "1048576"}, {"disks/1/cdrom", "true"},
                {"nics/0/mac", "02:00:00:00:00:01"}, {"nics/1/network", "n & m"}, {"notes", "[]"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *value = at(back, rows[i].path);
        cr_expect_str_eq(value, rows[i].value, "%s", rows[i].path);
    }
}

/* Each is the description above with one text replaced. */
Test(guests, ovf_that_is_refused)
{
    static const struct {
        const char *from, *to, *problem;
    } rows[] = {
        {"web-disk1.vmdk", "../secret", "file1: there is no file of that id beside the description"},
        {"web-disk1.vmdk", "/etc/shadow", "file1: there is no file of that id beside the description"},
        {"<References>", "<References><!DOCTYPE a>", "line 3: not well-formed (invalid token)"},
        {"<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
         "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>", "line 1: a document type is not accepted"},
        {"ovf:/disk/vmdisk1", "ovf:/disk/none", "ovf:/disk/none: there is no such disk in the description"},
        {"ovf:capacity=\"3\"", "ovf:capacity=\"-3\"",
         "vmdisk1: its capacity is no number of bytes up to 64 TiB"},
        {"ovf:capacity=\"3\"", "ovf:capacity=\"99999999999999\"",
         "vmdisk1: its capacity is no number of bytes up to 64 TiB"},
        {"byte * 2^20\" ovf:diskId", "byte * 2^99\" ovf:diskId",
         "vmdisk1: its capacity is no number of bytes up to 64 TiB"},
        {"ovf:fileRef=\"file1\"", "ovf:fileRef=\"file1\" ovf:parentRef=\"blank\"",
         "vmdisk1: it is a difference to another disk"},
        {"ovf:size=\"68608\"", "ovf:compression=\"gzip\"",
         "web-disk1.vmdk: it is compressed as a whole, which is not read here"},
        {"</VirtualSystem>", "</VirtualSystem><VirtualSystem ovf:id=\"b\"/>",
         "Envelope: it does not describe one machine, but none or several"},
        {">256<", "><", "Memory: its quantity is no number"},
    };
    size_t len;
    AUTO_FREE char *text = vmware(&len);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *problem = NULL;
        const char *at = strstr(text, rows[i].from);
        cr_assert(at, "%s", rows[i].from);
        AUTO_FREE char *other =
            xasprintf("%.*s%s%s", (int)(at - text), text, rows[i].to, at + strlen(rows[i].from));
        AUTO_JSON json_t *guest = guest_from_ovf(other, strlen(other), &problem);
        cr_expect(!guest && problem && streq(problem, rows[i].problem), "%zu: %s", i,
                  problem ? problem : "taken");
    }
}

/* ---- VMDK ---- */

static void run_qemu_img(const char *const *argv)
{
    struct proc_spec spec = {.argv = argv};
    struct proc_run_options options = {.timeout_ms = 60000, .capture_max = 4096};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    cr_assert(proc_run(&spec, &options, &result) == 0 && proc_ok(&result), "%s: %s", argv[0],
              result.err.len ? result.err.data : "");
}
#define QEMU_IMG(...) run_qemu_img((const char *const[]){"qemu-img", __VA_ARGS__, NULL})

static int file_of(const char *folder, const char *name, char **path)
{
    *path = xasprintf("%s/%s", folder, name);
    int fd = open(*path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    return fd;
}

enum { DISK = (5 << 20) + 512, BEFORE = 1024 };

/* What qemu-img writes is read back, out of the middle of another file; a cut or another size is refused. */
Test(guests, vmdk_of_another_writer)
{
    char folder[] = "/tmp/xe-vmdk-XXXXXX";
    cr_assert(mkdtemp(folder));
    AUTO_FREE char *raw_path = NULL, *image_path = NULL, *archive_path = NULL, *out_path = NULL,
                   *problem = NULL;
    AUTO_CLOSE int raw = file_of(folder, "raw", &raw_path),
                   archive = file_of(folder, "archive", &archive_path);
    AUTO_CLOSE int out = file_of(folder, "out", &out_path);
    AUTO_FREE uint8_t *disk = xcalloc(1, DISK), *got = xcalloc(1, DISK);
    for (size_t i = 0; i < DISK; i++)
        disk[i] = (uint8_t)(i < 200000 ? i * 7 : i > DISK - 1000 ? i : i % 700000 == 0);
    cr_assert_eq(pwrite(raw, disk, DISK, 0), DISK);
    image_path = xasprintf("%s/image", folder);
    QEMU_IMG("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw_path, image_path);
    size_t len;
    AUTO_FREE char *image = file_read(image_path, 16 << 20, &len);
    cr_assert(image);
    cr_assert_eq(pwrite(archive, image, len, BEFORE), (ssize_t)len);
    cr_assert_eq(vmdk_read(archive, BEFORE, (int64_t)len, DISK, out, NULL, NULL, &problem), 0, "%s", problem);
    cr_assert_eq(lseek(out, 0, SEEK_END), DISK);
    cr_assert_eq(pread(out, got, DISK, 0), DISK);
    cr_expect_eq(memcmp(got, disk, DISK), 0);

    /* And what is written here is read by the other, and by us. */
    AUTO_FREE char *ours_path = NULL, *theirs_path = xasprintf("%s/theirs", folder);
    AUTO_CLOSE int ours = file_of(folder, "ours", &ours_path);
    cr_assert_eq(vmdk_write(raw, DISK, ours, NULL, NULL, &problem), 0, "%s", problem);
    QEMU_IMG("convert", "-f", "vmdk", "-O", "raw", ours_path, theirs_path);
    AUTO_FREE char *theirs = file_read(theirs_path, 16 << 20, &len);
    cr_expect(theirs && len == DISK && memcmp(theirs, disk, DISK) == 0);
    cr_assert_eq(ftruncate(out, 0), 0);
    cr_assert_eq(vmdk_read(ours, 0, lseek(ours, 0, SEEK_END), DISK, out, NULL, NULL, &problem), 0, "%s",
                 problem);
    cr_assert_eq(pread(out, got, DISK, 0), DISK);
    cr_expect_eq(memcmp(got, disk, DISK), 0);
    unlink(ours_path);
    unlink(theirs_path);
    free(TAKE_PTR(image));
    image = file_read(image_path, 16 << 20, &len);

    static const struct {
        int64_t length, capacity;
    } wrong[] = {{100, DISK},      {70000, DISK}, {0, DISK},          {-1, DISK - 512},
                 {-1, DISK + 512}, {-1, 100},     {-1, INT64_MAX / 2}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        AUTO_FREE char *why = NULL;
        int64_t length = wrong[i].length < 0 ? (int64_t)len : wrong[i].length;
        cr_expect_eq(vmdk_read(archive, BEFORE, length, wrong[i].capacity, out, NULL, NULL, &why), -1, "%zu",
                     i);
        cr_expect_not_null(why);
    }
    const char *const paths[] = {raw_path, image_path, archive_path, out_path};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        unlink(paths[i]);
    rmdir(folder);
}

Test(guests, device_numbers)
{
    static const struct {
        const char *name;
        int number;
    } rows[] = {{"xvda", 0},   {"hdc", 2}, {"sdz", 25}, {"vdaa", 26}, {"d3", 3},
                {"xvda1", -1}, {"", -1},   {"xvd", -1}, {"d3p1", -1}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(guest_device_number(rows[i].name), rows[i].number, "%s", rows[i].name);
}
