/* An OVF 1.x envelope of a machine in the form that guests.h describes. */
#include "guests.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/xml.h>
#include <inttypes.h>

#define CIM "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_"
#define STREAM "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

static const char *text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

static void element(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "<rasd:%s>", name);
    xml_write_text(b, value);
    buf_printf(b, "</rasd:%s>", name);
}

/* The schema wants the elements of an item in the order of their names. */
struct item {
    int id, kind;
    const char *name, *address, *at_parent, *units, *connection, *host, *parent, *subtype;
    json_int_t quantity; /* 0: not said */
};

static void write_item(struct buf *b, const struct item *i)
{
    char number[24];
    const struct {
        const char *element, *value;
    } before[] = {{"Address", i->address}, {"AddressOnParent", i->at_parent}, {"AllocationUnits", i->units}};
    buf_add_str(b, "      <Item>");
    for (size_t k = 0; k < ARRAY_LEN(before); k++)
        if (before[k].value && *before[k].value)
            element(b, before[k].element, before[k].value);
    if (i->connection)
        buf_add_str(b, "<rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>");
    if (i->connection && *i->connection)
        element(b, "Connection", i->connection);
    element(b, "ElementName", i->name);
    if (i->host)
        element(b, "HostResource", i->host);
    snprintf(number, sizeof(number), "%d", i->id);
    element(b, "InstanceID", number);
    if (i->parent)
        element(b, "Parent", i->parent);
    if (i->subtype)
        element(b, "ResourceSubType", i->subtype);
    snprintf(number, sizeof(number), "%d", i->kind);
    element(b, "ResourceType", number);
    snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, i->quantity);
    if (i->quantity)
        element(b, "VirtualQuantity", number);
    buf_add_str(b, "</Item>\n");
}

static void write_disks(struct buf *b, const json_t *guest)
{
    size_t i;
    json_t *disk;
    buf_add_str(b, "  <References>\n");
    json_array_foreach(json_object_get(guest, "disks"), i, disk) if (*text(disk, "path"))
    {
        buf_printf(b, "    <File ovf:id=\"file%zu\" ovf:href=\"", i);
        xml_write_text(b, text(disk, "path"));
        buf_add_str(b, "\"/>\n");
    }
    buf_add_str(b, "  </References>\n  <DiskSection><Info>Disks</Info>\n");
    json_array_foreach(json_object_get(guest, "disks"), i, disk) if (*text(disk, "path")) buf_printf(
        b,
        "    <Disk ovf:diskId=\"disk%zu\" ovf:fileRef=\"file%zu\" ovf:capacity=\"%" JSON_INTEGER_FORMAT
        "\" ovf:format=\"" STREAM "\"/>\n",
        i, i, json_integer_value(json_object_get(disk, "size")));
    buf_add_str(b, "  </DiskSection>\n");
}

static void write_networks(struct buf *b, const json_t *guest)
{
    size_t i, k;
    const json_t *nic, *nics = json_object_get(guest, "nics");
    buf_add_str(b, "  <NetworkSection><Info>Networks</Info>\n");
    json_array_foreach(nics, i, nic)
    {
        for (k = 0; k < i && !streq(text(json_array_get(nics, k), "network"), text(nic, "network")); k++)
            ;
        if (k < i)
            continue; /* each once */
        buf_add_str(b, "    <Network ovf:name=\"");
        xml_write_text(b, text(nic, "network"));
        buf_add_str(b, "\"><Description/></Network>\n");
    }
    buf_add_str(b, "  </NetworkSection>\n");
}

static void write_hardware(struct buf *b, const json_t *guest)
{
    enum { SCSI = 3, IDE = 4 };
    int id = IDE + 1;
    size_t i;
    json_t *o;
    write_item(b, &(struct item){.id = 1,
                                 .kind = 3,
                                 .name = "Processors",
                                 .units = "hertz * 10^6",
                                 .quantity = json_integer_value(json_object_get(guest, "vcpus"))});
    write_item(b, &(struct item){.id = 2,
                                 .kind = 4,
                                 .name = "Memory",
                                 .units = "byte * 2^20",
                                 .quantity = json_integer_value(json_object_get(guest, "memory")) >> 20});
    write_item(b, &(struct item){.id = SCSI, .kind = 6, .name = "SCSI controller", .subtype = "lsilogic"});
    write_item(b, &(struct item){.id = IDE, .kind = 5, .name = "IDE controller"});
    json_array_foreach(json_object_get(guest, "disks"), i, o)
    {
        AUTO_FREE char *host = xasprintf("ovf:/disk/disk%zu", i), *place = xasprintf("%zu", i);
        bool cdrom = json_is_true(json_object_get(o, "cdrom"));
        write_item(b, &(struct item){.id = id++,
                                     .kind = cdrom ? 15 : 17,
                                     .name = cdrom ? "CD drive" : "Disk",
                                     .at_parent = place,
                                     .host = cdrom ? NULL : host,
                                     .parent = cdrom ? "4" : "3"});
    }
    json_array_foreach(json_object_get(guest, "nics"), i, o)
        write_item(b, &(struct item){.id = id++,
                                     .kind = 10,
                                     .name = "Network card",
                                     .address = text(o, "mac"),
                                     .connection = text(o, "network"),
                                     .subtype = "E1000"});
    if (streq(text(guest, "firmware"), "uefi"))
        buf_add_str(b, "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>\n");
}

char *guest_to_ovf(const json_t *guest)
{
    struct buf b = BUF_INIT;
    buf_add_str(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                    "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" "
                    "xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\" "
                    "xmlns:rasd=\"" CIM "ResourceAllocationSettingData\" "
                    "xmlns:vssd=\"" CIM
                    "VirtualSystemSettingData\" xmlns:vmw=\"http://www.vmware.com/schema/ovf\">\n");
    write_disks(&b, guest);
    write_networks(&b, guest);
    buf_add_str(&b, "  <VirtualSystem ovf:id=\"vm\">\n    <Info>A virtual machine</Info>\n    <Name>");
    xml_write_text(&b, text(guest, "name"));
    buf_add_str(
        &b, "</Name>\n    <OperatingSystemSection ovf:id=\"1\"><Info>System</Info></OperatingSystemSection>\n"
            "    <AnnotationSection><Info>Description</Info><Annotation>");
    xml_write_text(&b, text(guest, "description"));
    buf_add_str(
        &b, "</Annotation></AnnotationSection>\n    <VirtualHardwareSection><Info>Hardware</Info>\n"
            "      <System><vssd:ElementName>Hardware</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>"
            "<vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType></System>\n");
    write_hardware(&b, guest);
    buf_add_str(&b, "    </VirtualHardwareSection>\n  </VirtualSystem>\n</Envelope>\n");
    return buf_take(&b);
}
