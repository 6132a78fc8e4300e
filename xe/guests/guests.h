/* Guests of older toolstacks: their configuration files as one description that this pool can make a VM of.
 * Pure functions of bytes; nothing is run, fetched or opened. Any thread.
 *
 * A description is an object:
 *   name, description, type (hvm, pv, pvh), firmware (bios, uefi), boot (letters c d n), kernel, ramdisk,
 * args, bootloader, bootloader_args, on_poweroff, on_reboot, on_crash: texts; those that were not said are
 * missing memory, memory_max: bytes; vcpus, vcpus_max: numbers platform, vcpus_params: maps of texts, as in
 * VM.platform and VM.VCPUs_params disks: [{device (hda, xvdb, vdc...), number, path ("" for an empty drive),
 * format (raw, qcow2, vhd, vmdk), cdrom, readonly}], nics: [{number, mac, bridge, network, mtu, kbps}] with
 * "" or 0 where nothing is said notes: [{key, value, why}]: all that was said and has no place here; nothing
 * is dropped in silence */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Files of xl and of xm (also the Python-like ones: read, never run). The caller's; NULL: *problem is a
 * sentence (the caller's). */
json_t *guest_from_xl(const char *text, size_t len, char **problem);
/* A libvirt <domain>. The same. A document type, and with it every entity, is refused. */
json_t *guest_from_libvirt(const char *text, size_t len, char **problem);

/* An OVF envelope with one virtual system. Disks are files beside it, by their bare names (or "": empty
 * ones), of format vmdk, with "size" in bytes. The same. */
json_t *guest_from_ovf(const char *text, size_t len, char **problem);

/* The other way: the envelope of a description whose disks with a "path" are files beside it (the caller's).
 */
char *guest_to_ovf(const json_t *guest);

/* ---- between the files here ---- */

/* The assignments of a file in their order: [[key, value, line], ...]. A value is a string, an integer, an
 * array, null, or {"expression": text} where only running the file would tell. `notes` gets what was no
 * assignment. */
json_t *xl_parse(const char *text, size_t len, json_t *notes, char **problem);
/* Adds to the notes of a description; `value` may be NULL. */
void guest_note(json_t *guest, const char *key, const char *value, const char *why);
/* The number of a device by its name: hda 0, xvdb 1, sdc 2, vdd 3, also with "d3". -1: no such name. */
int guest_device_number(const char *device);
/* Sets *problem; NULL, so that a function can return it. */
void *guest_problem(char **problem, const char *format, ...) __attribute__((format(printf, 2, 3)));
