/* Reading the provision text with libxml2, with everything that reaches outside the text switched off. */
#include "provision.h"

#include "../rules/vbd_device.h"

#include <base/mem.h>
#include <errno.h>
#include <libxml/parser.h>
#include <model/errors.h>

#define XML_MAX 65536
#define DISKS_MAX 64

void provision_done(struct provision *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->disks[i].device);
        free(p->disks[i].sr);
    }
    free(p->disks);
    *p = (struct provision){0};
}

static char *attribute(xmlNode *node, const char *name)
{
    xmlChar *text = xmlGetNoNsProp(node, (const xmlChar *)name);
    char *copy = xstrdup(text ? (const char *)text : "");
    xmlFree(text);
    return copy;
}

static int wrong(struct api_err *err, const char *what)
{
    return err_invalid_value(err, "other_config:disks", what);
}

static int read_disk(xmlNode *node, struct provision_disk *disk, struct api_err *err)
{
    AUTO_FREE char *size = attribute(node, "size");
    AUTO_FREE char *bootable = attribute(node, "bootable");
    AUTO_FREE char *type = attribute(node, "type");
    char *end;
    errno = 0;
    disk->device = attribute(node, "device");
    disk->sr = attribute(node, "sr");
    disk->size = strtoll(size, &end, 10);
    if (!*size || *end || errno || disk->size <= 0)
        return wrong(err, "the size of a disk is a number of bytes greater than 0");
    if (!vbd_device_parse(disk->device, &disk->number))
        return wrong(err, "the device of a disk is a number from 0 to 254, or a name such as xvda");
    disk->bootable = streq(bootable, "true");
    int index = *type ? enum_find(&model_enum_vdi_type, type) : (int)VDI_TYPE_SYSTEM;
    if (index < 0)
        return wrong(err, "the type of a disk is system, user, ephemeral, suspend or crashdump");
    disk->type = (enum vdi_type)index;
    return 0;
}

static int read_disks(xmlDoc *doc, struct provision *p, struct api_err *err)
{
    xmlNode *root = xmlDocGetRootElement(doc);
    if (doc->intSubset || !root || !streq((const char *)root->name, "provision"))
        return wrong(err, "the text is one <provision> element, without a document type");
    for (xmlNode *node = root->children; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (!streq((const char *)node->name, "disk"))
            return wrong(err, "a <provision> holds only <disk> elements");
        if (p->count == DISKS_MAX)
            return wrong(err, "a template has at most 64 disks");
        p->disks = xreallocarray(p->disks, p->count + 1, sizeof(*p->disks));
        p->disks[p->count] = (struct provision_disk){0};
        if (read_disk(node, &p->disks[p->count++], err) < 0)
            return -1;
        for (size_t i = 0; i + 1 < p->count; i++)
            if (p->disks[i].number == p->disks[p->count - 1].number)
                return wrong(err, "two disks have one device");
    }
    return 0;
}

int provision_parse(const char *xml, struct provision *out, struct api_err *err)
{
    *out = (struct provision){0};
    size_t len = strlen(xml);
    if (len == 0)
        return 0;
    if (len > XML_MAX)
        return wrong(err, "the text is longer than 64 KiB");
    xmlDoc *doc =
        xmlReadMemory(xml, (int)len, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!doc)
        return wrong(err, "the text is not well-formed XML");
    struct provision p = {0};
    int rc = read_disks(doc, &p, err);
    xmlFreeDoc(doc);
    if (rc < 0)
        provision_done(&p);
    else
        *out = p;
    return rc;
}
