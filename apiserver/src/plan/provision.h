/* The disks that a template wants: other_config:disks, a small XML text. Pure. */
#pragma once
#include <model/error.h>
#include <model/rows.h>
#include <stddef.h>

struct provision_disk {
    char *device; /* as written: becomes the VDI's name */
    int number;   /* of the device; no two disks have one */
    char *sr;     /* uuid of the SR; "" when the client did not fill it in */
    int64_t size;
    bool bootable;
    enum vdi_type type;
};
struct provision {
    struct provision_disk *disks;
    size_t count;
};

/* <provision><disk device="0" size="8589934592" sr="uuid" bootable="true" type="system"/>...</provision>; an
 * empty text has no disks. No DTD, entities or network. -1: INVALID_VALUE ["other_config:disks", what is
 * wrong]. */
int provision_parse(const char *xml, struct provision *out, struct api_err *err);
void provision_done(struct provision *p);
#define AUTO_PROVISION __attribute__((cleanup(provision_done)))
