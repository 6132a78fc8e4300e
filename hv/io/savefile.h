/* The file that a suspended domain is kept in. It begins with SAVE_DATA_OFFSET bytes of ours: magic, version,
 * and as JSON which driver wrote it, for which machine, and the whole configuration; the driver's own data
 * follows. The header is written last, so a file with a header is whole. Whoever can write to the disk can
 * write the header: everything in it is checked as if it came from a stranger. */
#pragma once
#include <base/buf.h>
#include <hv/driver.h>
#include <jansson.h>

#define SAVE_DATA_OFFSET (256 << 10)

struct save_header {
    char driver[16];         /* "qemu" */
    char driver_version[32]; /* "7.2.22" */
    char platform[160];      /* the machine and processor that the saved guest sees, in the driver's words */
    int64_t state_bytes;     /* up to the end of the driver's data, header included */
    struct domain_config config;
    json_t *layout; /* the driver's; NULL: none */
};
void save_header_done(struct save_header *header);
#define AUTO_SAVE_HEADER __attribute__((cleanup(save_header_done)))

/* The header as bytes, for save_header_parse; appended. -1: it is too long. */
int save_header_format(const struct save_header *header, struct buf *out, struct hv_err *err);
/* Makes what the file held before unreadable, before new data is written. */
int save_header_clear(int fd, struct hv_err *err);
/* Writes it and syncs the whole file. */
int save_header_write(int fd, const struct save_header *header, struct hv_err *err);
/* FORMAT: not a saved domain, or not a whole one. */
int save_header_read(int fd, struct save_header *header, struct hv_err *err);
/* The same from bytes. */
int save_header_parse(const void *data, size_t len, struct save_header *header, struct hv_err *err);

/* The configuration to resume with (hv/agent: domain_resume says what comes from where). FORMAT: the devices
 * are not the same. *out is initialised on success. */
int save_merge(const struct domain_config *saved, const struct domain_config *asked, bool start_paused,
               struct domain_config *out, struct hv_err *err);
