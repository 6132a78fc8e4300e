/* Back ends of storage repositories on this host: directories of disk files, and directories of ISO
 * images. Called by the agent on worker threads: every function blocks; any thread, and several at once
 * on one SR, but the caller keeps two changes of the same disk apart.
 *
 * A disk is named by its location in the SR: in a `file` SR its uuid (the file is <uuid>.qcow2 or
 * <uuid>.raw), in an `iso` SR the file's name. The format is what the name says, never what the content looks
 * like. int functions give 0, or -1 with *error set. */
#pragma once
#include <base/rc.h>
#include <base/ref.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum storage_failure {
    STORAGE_NOT_SUPPORTED, /* this kind of SR cannot do that, or nobody wrote it yet; the text says which */
    STORAGE_BAD_CONFIG,    /* device_config: a key is missing or its value is not usable */
    STORAGE_UNAVAILABLE,   /* the directory is not there, not a directory, of a wrong owner */
    STORAGE_BAD_NAME,      /* a location that is not a uuid, or not a plain file name */
    STORAGE_NO_DISK,
    STORAGE_EXISTS,
    STORAGE_FULL,      /* no space left, or a quota */
    STORAGE_BAD_SIZE,  /* 0, too large, or a resize that would shrink */
    STORAGE_BAD_IMAGE, /* the data is not what its format claims, or refers to other files */
    STORAGE_DATA_SHORT,
    STORAGE_DATA_LONG, /* more data than the disk holds */
    STORAGE_READ_ONLY,
    STORAGE_CANCELLED,
    STORAGE_TOO_DEEP,  /* its images stand on each other as deeply as they can */
    STORAGE_UNRELATED, /* which blocks changed between these disks is not known */
    STORAGE_IO,        /* anything else that the system refused */
};
struct storage_error {
    enum storage_failure kind;
    char text[240]; /* for a person; names no path outside the SR */
};
const char *storage_failure_name(enum storage_failure kind);

enum disk_format {
    DISK_RAW,
    DISK_QCOW2,
    DISK_VHD,  /* of imports and exports alone: no disk is kept so */
    DISK_VMDK, /* of imports alone */
};
const char *disk_format_name(enum disk_format format); /* "raw", "qcow2", "vpc", "vmdk": as QEMU says */
bool disk_format_parse(const char *text, enum disk_format *out);

/* The user that owns disk files and runs qemu-img; 0, 0 (or a caller that is not root): as the caller. Once,
 * before anything else. */
void storage_set_user(uid_t uid, gid_t gid);
/* Path of corral-launch (borrowed), which keeps qemu-img from all files but the images that it is given,
 * where the kernel has Landlock; NULL: it is not kept from them. Once, before anything else. */
void storage_set_launcher(const char *path);

/* How a long function tells of its progress and learns that it should stop. All may be NULL. */
struct storage_job {
    void (*progress)(void *arg, double fraction); /* 0..1, rising, on the calling thread */
    void *arg;
    const _Atomic bool *cancel; /* true: stop soon, undo, STORAGE_CANCELLED */
};

/* ---- repositories ---- */
struct storage_sr;
/* Keys of device_config: location=<absolute directory>. */
/* Makes the directory (mode 0700; its parent must exist) unless it is there and empty of disks. `iso`: it
 * must be there. */
int storage_sr_create(const char *type, const struct str_map *device_config, struct storage_error *error);
/* Checks it, opens it, removes leftovers of an agent that died at work. */
int storage_sr_attach(const char *type, const struct str_map *device_config, struct storage_sr **out,
                      struct storage_error *error);
/* Frees. Nothing may be under way on it. NULL is accepted. */
void storage_sr_detach(struct storage_sr *sr);
/* Removes the directory of a `file` SR, which must hold nothing. */
int storage_sr_destroy(const char *type, const struct str_map *device_config, struct storage_error *error);
/* Notes in the folder that it is the SR of this uuid; STORAGE_EXISTS when it is another's. `anew`: it was
 * just created, so an old note (of an SR without disks) does not count; else an empty folder without a note
 * is STORAGE_UNAVAILABLE: most likely one whose file system is not mounted. Success for an `iso` SR, which
 * has no note. */
int storage_sr_claim(struct storage_sr *sr, const char *uuid, bool anew, struct storage_error *error);

struct storage_stats {
    int64_t physical_size_bytes; /* of the file system */
    int64_t physical_used_bytes; /* used on the file system, by whomever */
};
int storage_sr_stats(struct storage_sr *sr, struct storage_stats *out, struct storage_error *error);
/* What stands at a place that is (perhaps) no SR of this host: STORAGE_UNAVAILABLE when there is no such
 * directory. Makes nothing. */
struct storage_probe {
    char uuid[UUID_TEXT_SIZE]; /* of the SR that it is; "": none says so */
    struct storage_stats stats;
    size_t disk_count;
};
int storage_sr_probe(const char *type, const struct str_map *device_config, struct storage_probe *out,
                     struct storage_error *error);

struct storage_disk {
    char *location;
    enum disk_format format;
    bool read_only;
    int64_t virtual_size_bytes;
    int64_t physical_bytes;      /* allocated by its own image, without the base below */
    char parent[UUID_TEXT_SIZE]; /* the base that it stands on; "": none */
    char version[64];            /* another one whenever the content may be; of storage_disk_stat alone */
};
struct storage_disks {
    struct storage_disk *items;
    size_t count;
};
void storage_disks_done(struct storage_disks *disks);
#define AUTO_STORAGE_DISKS __attribute__((cleanup(storage_disks_done)))
/* All disks, by location. Files that are no disks (other names, links, broken headers) are left out and
 * logged. */
int storage_sr_scan(struct storage_sr *sr, struct storage_disks *out, struct storage_error *error);

/* ---- disks ---- */
int storage_disk_stat(struct storage_sr *sr, const char *location, struct storage_disk *out,
                      struct storage_error *error);
void storage_disk_done(struct storage_disk *disk);
/* `virtual_size_bytes` is rounded up to 512; the size made is in *out. */
int storage_disk_create(struct storage_sr *sr, const char *uuid, int64_t virtual_size_bytes,
                        enum disk_format format, int64_t *out, struct storage_error *error);
/* Gone already is success. */
int storage_disk_destroy(struct storage_sr *sr, const char *location, struct storage_error *error);
/* Grows; the same size is success. Not while a VM runs with it. */
int storage_disk_resize(struct storage_sr *sr, const char *location, int64_t virtual_size_bytes, int64_t *out,
                        struct storage_error *error);
/* A full copy into a new disk of `to_sr`, of the given format. */
int storage_disk_copy(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                      const char *to_uuid, enum disk_format to_format, const struct storage_job *job,
                      struct storage_error *error);
/* ---- thin copies ----
 * A disk at rest and its copy share what the disk held: that becomes a base, a file that is never listed,
 * never changed and removed with the last disk on it. Whatever dies in the middle leaves both whole or the
 * copy absent; names that it left are put right at the next attach. `track`: the copy is a snapshot, and if
 * changes of the disk are tracked it is noted which blocks changed since the one before. */
int storage_disk_clone(struct storage_sr *sr, const char *location, const char *new_uuid, bool track,
                       const struct storage_job *job, struct storage_error *error);

/* The same in two steps, for a disk that a device model writes to. After `begin` the disk's name leads to a
 * new empty image over the base, while whoever has the disk open still writes into the base: that is to
 * change to storage_layer_fd() now. Then `commit` gives the copy its name. `abort`, with applied false:
 * nobody changed to it, and all is as before; true: the disk keeps its new image, the copy is dropped. Both
 * free the layer. */
struct storage_layer;
int storage_layer_begin(struct storage_sr *sr, const char *location, const char *new_uuid,
                        struct storage_layer **out, struct storage_error *error);
int storage_layer_fd(const struct storage_layer *layer); /* the layer's; qcow2, for reading and writing */
/* A name that no other layer has, of at most 20 letters and digits. */
const char *storage_layer_token(const struct storage_layer *layer);
/* The copy is a snapshot of that disk: as `track` above. */
void storage_layer_track(struct storage_layer *layer, const char *location, const char *new_uuid);
int storage_layer_commit(struct storage_layer *layer, struct storage_error *error);
void storage_layer_abort(struct storage_layer *layer, bool applied);

/* Without QEMU's tools, for raw disks: full copies. storage_layer_fd() is -1 then, nobody has to change to
 * anything, and the disk's content must not be written between begin and commit. */
int storage_disk_copy_plain(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                            const char *to_uuid, const struct storage_job *job, struct storage_error *error);
int storage_layer_begin_plain(struct storage_sr *sr, const char *location, const char *new_uuid,
                              struct storage_layer **out, struct storage_error *error);

/* ---- which blocks changed ----
 * From `enable` on each snapshot of the disk (see `track`) has a note of the blocks that changed since the
 * one before, which stays when its data is destroyed. Destroying a snapshot whole adds its note to the next
 * one's. */
int storage_changes_enable(struct storage_sr *sr, const char *location, struct storage_error *error);
/* Notes of snapshots stay. Not tracked is success. */
int storage_changes_disable(struct storage_sr *sr, const char *location, struct storage_error *error);
/* One bit for each 64 KiB of `to`, the first block in the highest bit of the first byte; *bits is on the
 * heap. `to` may be a snapshot or the disk itself, which nobody writes meanwhile. Blocks that `to` has and
 * `from` had not count as changed. STORAGE_UNRELATED: not known. */
int storage_changes_list(struct storage_sr *sr, const char *from, const char *to, uint8_t **bits, size_t *len,
                         struct storage_error *error);
/* Removes the data of a snapshot and keeps its note. Gone already is success. */
int storage_data_destroy(struct storage_sr *sr, const char *location, struct storage_error *error);

/* ---- merging images ----
 * A base on which just one image stands is merged with that: what the image holds is written into the base,
 * which then takes the image's name. Whoever reads the disks above reads the same at every moment, also after
 * a death in the middle, which is then begun anew. */
struct storage_merge {
    char lower[256], upper[256];  /* file names */
    bool of_disk;                 /* the upper image is a disk's own: only while nobody has that open */
    int64_t bytes;                /* that the upper image takes on the file system */
    char (*tops)[UUID_TEXT_SIZE]; /* all disks that stand on both */
    size_t top_count;
};
struct storage_merges {
    struct storage_merge *items;
    size_t count;
};
void storage_merges_done(struct storage_merges *merges);
#define AUTO_STORAGE_MERGES __attribute__((cleanup(storage_merges_done)))
/* What could be merged, the smallest first. */
int storage_merges_find(struct storage_sr *sr, struct storage_merges *out, struct storage_error *error);
/* Before the first byte is written; STORAGE_NOT_SUPPORTED: not any more. Nobody may make or remove a disk of
 * merge->tops until `finish`. */
int storage_merge_begin(struct storage_sr *sr, const struct storage_merge *merge,
                        struct storage_error *error);
/* Writes the upper image into the base, for disks that nobody has open for writing. */
int storage_merge_write(struct storage_sr *sr, const struct storage_merge *merge,
                        const struct storage_job *job, struct storage_error *error);
/* Opens an image of the SR for reading and writing, for a device model that does that itself. */
int storage_merge_open(struct storage_sr *sr, const char *name, int *fd, struct storage_error *error);
/* All is written: the base takes the image's name. */
int storage_merge_finish(struct storage_sr *sr, const struct storage_merge *merge,
                         struct storage_error *error);
/* File names of a disk's images, the top first; to be freed, each and the array. */
int storage_disk_image_names(struct storage_sr *sr, const char *location, char ***names, size_t *count,
                             struct storage_error *error);

/* A disk's images for the device model, the disk's own first, each standing on the next: those below are open
 * for reading. Descriptors are close-on-exec and regular files, reached without following any link. */
struct storage_image {
    int fd;
    enum disk_format format;
};
struct storage_images {
    struct storage_image *items;
    size_t count;
};
void storage_images_done(struct storage_images *images);
int storage_disk_open_images(struct storage_sr *sr, const char *location, bool writable,
                             struct storage_images *out, struct storage_error *error);

/* The same for a disk that is one file; STORAGE_NOT_SUPPORTED for a thin copy. */
int storage_disk_open(struct storage_sr *sr, const char *location, bool writable, int *fd,
                      enum disk_format *format, struct storage_error *error);

/* Replaces the content of a disk by a stream of `format`. `read` blocks and gives > 0 bytes, 0 at the end, -1
 * when the stream broke. `length` is what was announced, -1: unknown; fewer bytes are STORAGE_DATA_SHORT. The
 * image may be smaller than the disk (the rest reads as zeros) but not larger. On any failure the disk is as
 * before and nothing is left behind. */
struct storage_source {
    ssize_t (*read)(void *arg, void *to, size_t max);
    void *arg;
    int64_t length;
};
int storage_disk_import(struct storage_sr *sr, const char *location, enum disk_format format,
                        const struct storage_source *source, const struct storage_job *job,
                        struct storage_error *error);

/* ---- uploads in parts ----
 * An upload is a file of the SR that is never listed and that storage_disk_destroy removes by its uuid; one
 * that nobody writes for a week is removed when the SR is attached. What counts of it is what has reached the
 * disk, so it goes on behind that place whoever died. One thread at a time has it. */
struct storage_upload {
    const char *uuid;
    int64_t length; /* of all of it, always the same; 1 to 64 TiB */
};
/* How many bytes count so far; STORAGE_NO_DISK: it has not begun, or was finished. */
int storage_upload_look(struct storage_sr *sr, const struct storage_upload *upload, int64_t *offset,
                        struct storage_error *error);
/* Adds the stream behind `from`, which has to be what counts so far. Bytes count as they come, also when it
 * then breaks; `whole`: only when it came to its end. *offset is set on failures, too: what counts then. */
int storage_upload_write(struct storage_sr *sr, const struct storage_upload *upload, int64_t from, bool whole,
                         const struct storage_source *source, const struct storage_job *job, int64_t *offset,
                         struct storage_error *error);
/* All has come: checked, and the disk's content from now on. `sha256` in 64 digits, "": not known. A failure
 * leaves the disk and the upload. */
int storage_upload_finish(struct storage_sr *sr, const struct storage_upload *upload, const char *location,
                          enum disk_format format, const char *sha256, const struct storage_job *job,
                          struct storage_error *error);

/* Writes the disk out in `format`. `begin` is called once, before the first byte, with the exact length. Both
 * callbacks: 0, or -1 to give up (STORAGE_CANCELLED). */
struct storage_sink {
    int (*begin)(void *arg, int64_t length); /* may be NULL */
    int (*write)(void *arg, const void *data, size_t len);
    void *arg;
};
int storage_disk_export(struct storage_sr *sr, const char *location, enum disk_format format,
                        const struct storage_sink *sink, const struct storage_job *job,
                        struct storage_error *error);
/* `length` bytes of its raw form from `from` on; -1: all of them. */
int storage_disk_export_part(struct storage_sr *sr, const char *location, int64_t from, int64_t length,
                             const struct storage_sink *sink, const struct storage_job *job,
                             struct storage_error *error);
/* What of it differs from the disk `base` (see storage_changes_list), as a differencing VHD image. */
int storage_disk_export_changes(struct storage_sr *sr, const char *base, const char *location,
                                const struct storage_sink *sink, const struct storage_job *job,
                                struct storage_error *error);

/* A disk that is read over NBD, by one connection at a time of its own. */
struct storage_server;
/* Finds the disk and opens its files. The SR has to stay attached until storage_serve_close. */
int storage_serve_open(struct storage_sr *sr, const char *location, struct storage_server **out,
                       struct storage_error *error);
/* Starts the server; *fd is a connection to it, in the beginning of a handshake ("fixed newstyle", one export
 * named "disk", read-only). The server is killed when the calling thread ends. */
int storage_serve_start(struct storage_server *server, int *fd, struct storage_error *error);
/* Ends the server. NULL is accepted. */
void storage_serve_close(struct storage_server *server);
