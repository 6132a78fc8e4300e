/* Shared by the files of hv/storage. */
#pragma once
#include <base/proc.h>
#include <hv/storage.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/stat.h>

/* What differs between kinds of SR: small enough for flags; a back end with code of its own (LVM) would
 * make this a table of functions. */
struct sr_kind {
    const char *type;
    bool read_only;    /* disks are neither made nor changed */
    bool by_file;      /* a disk is named by its file name, not by a uuid */
    bool makes_folder; /* sr_create and sr_destroy make and remove the folder */
};

struct storage_sr {
    const struct sr_kind *kind;
    char *location;
    int dir;                /* the folder, open: everything is reached through it */
    pthread_mutex_t layers; /* held while bases get or lose names (layers.c) */
};

/* Always -1. */
int storage_fail(struct storage_error *error, enum storage_failure kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* STORAGE_FULL, STORAGE_READ_ONLY or STORAGE_IO by the errno value. */
int storage_fail_errno(struct storage_error *error, int saved, const char *what);
uid_t storage_uid(void);
gid_t storage_gid(void);
const char *storage_launcher(void);

/* ---- folder.c: names and files in the folder ---- */
#define FILE_NAME_SIZE 256
/* Opens a regular file of the SR without following links. Descriptor or -1 with errno. */
int folder_open(const struct storage_sr *sr, const char *name, int flags);
/* A file under a temporary name. While `fd` is open it is locked, so that a clean-up by another agent
 * on the same folder leaves it alone. */
struct temp_file {
    const struct storage_sr *sr;
    char name[64]; /* "" once it was renamed */
    int fd;        /* -1: none */
};
#define TEMP_FILE_INIT                                                                                       \
    {                                                                                                        \
        .fd = -1                                                                                             \
    }
/* Owned by the storage user, mode 0600, empty. */
int temp_open(const struct storage_sr *sr, struct temp_file *out, struct storage_error *error);
/* Syncs it and gives it its name; `replace` false: STORAGE_EXISTS if that is taken. */
int temp_commit(struct temp_file *t, const char *name, bool replace, struct storage_error *error);
/* Closes; removes it unless it was committed. */
void temp_done(struct temp_file *t);
#define AUTO_TEMP __attribute__((cleanup(temp_done)))
/* Removes temporary files that nobody holds. */
void folder_clean(const struct storage_sr *sr);
int folder_sync(const struct storage_sr *sr, struct storage_error *error);
/* Calls it for each name in the folder, which it may change. -1 with errno. */
int folder_each(const struct storage_sr *sr, void (*each)(const struct storage_sr *, const char *, void *),
                void *arg);

/* ---- mark.c: whose folder it is ---- */
int mark_remove(const struct storage_sr *sr, struct storage_error *error);
/* Nothing but the mark is in it. */
bool folder_is_empty(const struct storage_sr *sr);

/* ---- disk.c ---- */
struct disk_file {
    int fd; /* -1: none */
    enum disk_format format;
    int64_t virtual_size;
    struct stat st;
    char name[FILE_NAME_SIZE];
    char backing[FILE_NAME_SIZE]; /* file of the base below; "": none */
};
#define DISK_FILE_INIT                                                                                       \
    {                                                                                                        \
        .fd = -1                                                                                             \
    }
void disk_file_done(struct disk_file *d);
#define AUTO_DISK_FILE __attribute__((cleanup(disk_file_done)))
/* Finds and opens a disk (`flags`: O_RDONLY or O_RDWR) and reads its size. */
int disk_file_open(const struct storage_sr *sr, const char *location, int flags, struct disk_file *out,
                   struct storage_error *error);
/* Reads size and backing of an open file of that name and format. */
int disk_file_look(struct disk_file *d, struct storage_error *error);
/* <uuid>.<format> */
void disk_file_name(char out[static FILE_NAME_SIZE], const char *uuid, enum disk_format format);
int disk_exists_already(const struct storage_sr *sr, const char *uuid, struct storage_error *error);
int disk_refuse_change(const struct storage_sr *sr, struct storage_error *error);
/* False: not a disk's file name in this kind of SR. Sets the location and the format. */
bool disk_name_parse(const struct storage_sr *sr, const char *name, char location[static FILE_NAME_SIZE],
                     enum disk_format *format);
int disk_check_uuid(const char *uuid, char out[static UUID_TEXT_SIZE], struct storage_error *error);
/* 1 to 64 TiB; the size rounded up to 512. */
int disk_check_size(int64_t size, int64_t *out, struct storage_error *error);
/* Makes `t` an empty image. */
int disk_make(struct temp_file *t, enum disk_format format, int64_t size, struct storage_error *error);

/* Removes a disk's files, and bases that nobody stands on then. Gone already is success. */
int disk_remove_files(struct storage_sr *sr, const char *uuid, struct storage_error *error);

/* ---- import.c: bytes on their way to a disk ---- */
/* Where they are written to. */
struct spool {
    int fd;
    int64_t at, max; /* bytes so far; the most that is accepted */
    bool skip_zeros; /* leave holes: where the file reads as zeros, and raw data only (images are checked) */
};
int spool_write(struct spool *s, const char *data, size_t len, struct storage_error *error);
/* The most bytes of that format that the disk takes. */
int64_t spool_max(const struct disk_file *d, enum disk_format format);
/* The `length` bytes in `spooled` are checked and become the disk's content. A raw disk takes over the file
 * itself, which has no name of its own then. On a failure the disk is as before; the spooled file may have
 * another length. */
int spool_settle(struct storage_sr *sr, struct temp_file *spooled, const struct disk_file *d,
                 enum disk_format format, int64_t length, const struct storage_job *job, double progress_from,
                 struct storage_error *error);

/* ---- upload.c: uploads in parts ---- */
/* upload-<uuid>; False: not the name of one. */
bool upload_name_parse(const char *name);
/* Gone already is success. */
int upload_remove(const struct storage_sr *sr, const char *uuid, struct storage_error *error);
/* Of an upload that nobody has asked about for so long. */
#define UPLOAD_KEPT_S (7 * 24 * 3600)

/* ---- layers.c: thin copies ---- */
/* A disk's images, files[0] on top. */
#define LAYERS_MAX 64
/* Of a disk that is written to, whose images nobody can take away meanwhile. QEMU tells of all of them in one
 * answer, one in the other, and JSON is read to a depth of 64. */
#define LAYERS_LIVE 50
#define LAYERS_DEEP 32 /* from here on a copy at rest starts anew with a full one */
struct disk_layers {
    struct disk_file *files; /* heap */
    size_t count;
};
void disk_layers_done(struct disk_layers *layers);
#define AUTO_DISK_LAYERS __attribute__((cleanup(disk_layers_done)))
/* The same as disk_file_open, with all that it stands on (opened for reading). */
int disk_layers_open(const struct storage_sr *sr, const char *location, int flags, struct disk_layers *out,
                     struct storage_error *error);
/* The same from an image by its file name; the one below it is opened with `flags` too. */
int layers_open_from(const struct storage_sr *sr, const char *name, int flags, struct disk_layers *out,
                     struct storage_error *error);
/* base-<uuid>.<format>, and nothing else. */
bool base_name_parse(const char *name, char uuid[static UUID_TEXT_SIZE], enum disk_format *format);
/* Removes bases that nothing stands on, and what a death in the middle of a copy left of names. */
void layers_sweep(struct storage_sr *sr);
void layers_repair(struct storage_sr *sr);

/* Who stands on a base, by name; `users` counts images under temporary names too. */
struct layer_found {
    char name[FILE_NAME_SIZE], backing[FILE_NAME_SIZE]; /* backing "": nothing of ours */
    size_t users;
    char user[FILE_NAME_SIZE]; /* the one that was seen last */
};
struct layers_found {
    struct layer_found *items; /* bases, in order of name */
    size_t count;
    struct layer_found *tops; /* disks that stand on bases */
    size_t top_count;
    bool blind; /* a file could not be looked at: nothing is known to be unused */
};
void layers_found_done(struct layers_found *found);
#define AUTO_LAYERS_FOUND __attribute__((cleanup(layers_found_done)))
int layers_find(const struct storage_sr *sr, struct layers_found *out);
/* NULL: no such base. */
struct layer_found *layers_find_base(const struct layers_found *found, const char *name);

/* ---- allocated.c: what an image holds itself ---- */
#define MAP_BLOCK INT64_C(65536)
/* One bit a block of a disk, the first block the highest bit of the first byte. */
struct block_map {
    int64_t size; /* of the disk, in bytes */
    uint8_t *bits;
};
size_t map_bytes(int64_t size);
void map_init(struct block_map *map, int64_t size);
void map_done(struct block_map *map);
void map_set(struct block_map *map, int64_t block);
/* All blocks from this byte on. */
void map_set_from(struct block_map *map, int64_t at);
/* Those of the other too, as far as they are on this disk. */
void map_add(struct block_map *map, const struct block_map *other);
/* Adds the blocks that the qcow2 image in `fd` holds, without those below it. */
int allocated_add(int fd, struct block_map *map, struct storage_error *error);

/* ---- changed.c: which blocks changed between snapshots; with sr->layers held ---- */
bool changed_name_parse(const char *name, char uuid[static UUID_TEXT_SIZE]);
bool changed_tracked(const struct storage_sr *sr, const char *uuid);
/* What is open here is a whole note. */
bool changed_note_holds(int fd);
/* `copy` is about to be a snapshot of `disk`, which stands on `base` ("": it stands on nothing new). Nothing
 * happens when the disk is not tracked. */
int changed_snapshot(const struct storage_sr *sr, const char *disk, const char *copy, const char *base,
                     struct storage_error *error);
/* The disk goes: what counts from it counts from the one before. */
int changed_forget(const struct storage_sr *sr, const char *uuid, struct storage_error *error);
/* The image `upper` (in upper_fd) is about to be merged into `lower`, which then takes its name. */
int changed_merge(const struct storage_sr *sr, const char *lower, const char *upper, int upper_fd,
                  struct storage_error *error);

/* ---- image.c: qcow2's header, and qemu-img ---- */
struct qcow2_header {
    int64_t virtual_size;
    bool backing_file, encrypted, data_file, unknown_features;
    char backing[64]; /* name of the backing file; "" when it has none, or one longer than ours are */
};
/* False: not a qcow2 header. Only the header is read. */
bool qcow2_header_read(int fd, struct qcow2_header *out);
/* Runs qemu-img as the storage user with `fds` as /proc/self/fd/10, 11... `output` may be NULL. */
#define TOOL_FD 10
#define TOOL_PATH_SOURCE "/proc/self/fd/10"
#define TOOL_PATH_TARGET "/proc/self/fd/11"
struct tool_run {
    const char *const *argv; /* of qemu-img, without its name; ended by NULL */
    const int *fds;
    size_t fd_count;
    int64_t timeout_ms; /* -1: none */
    rlim_t file_size_max;
    rlim_t cpu_seconds_max; /* 0: no limit */
    const struct storage_job *job;
    double progress_from, progress_to;
    bool ends_with_caller; /* killed when this thread ends: it writes what others may want */
    int fine_code;         /* an exit code beside 0 that counts as success; 0: none */
    struct buf *output;    /* stdout, unless there is a job */
};
int tool_run(const struct storage_sr *sr, const struct tool_run *run, struct storage_error *error);
/* The Landlock ruleset of a program that works on these files: it opens them, as they are open here, and no
 * others. *ruleset is -1 without Landlock (base/confine.h) or a launcher. */
int tool_confine(const int *files, size_t count, int *ruleset, struct storage_error *error);
/* Files as descriptors TOOL_FD, TOOL_FD + 1... of a child that runs as the storage user: `count` in `out`. */
int tool_hand_over(const struct storage_sr *sr, const int *files, size_t count, struct proc_fd *out,
                   struct storage_error *error);
/* The disk in QEMU's words, with every file a descriptor: files[i] is descriptor TOOL_FD + first + i. */
json_t *layers_node(const struct disk_layers *layers, int first);
/* Their descriptors, as many as the answer says (LAYERS_MAX at most). */
size_t layers_fds(const struct disk_layers *layers, int *fds);
/* Where a copy of an image goes. */
struct conversion {
    int to; /* an empty image of the same or a larger size */
    enum disk_format to_format;
    int64_t target_size;
    const struct storage_job *job; /* may be NULL */
    double progress_from, progress_to;
    int64_t at, count; /* of image_convert_layers: this part of the disk alone, whole sectors; count 0: all */
};
/* Copies the image in `from`, which stands on nothing. */
int image_convert(const struct storage_sr *sr, int from, enum disk_format from_format,
                  const struct conversion *how, struct storage_error *error);
/* The same from a disk with all its images. */
int image_convert_layers(const struct storage_sr *sr, const struct disk_layers *from,
                         const struct conversion *how, struct storage_error *error);
/* Makes `t` an empty image over a base, which is only named. */
int image_make_overlay(struct temp_file *t, const char *base, enum disk_format base_format, int64_t size,
                       struct storage_error *error);
/* Writes what the image on top holds into the one below it, which grows to its size; the top stays as it is.
 */
int image_commit(const struct storage_sr *sr, const struct disk_layers *layers, const struct storage_job *job,
                 struct storage_error *error);
/* Grows the image on top. */
int image_resize(const struct storage_sr *sr, const struct disk_layers *layers, int64_t size,
                 struct storage_error *error);
/* Refuses an uploaded qcow2 image that is broken, refers to other files, or is larger than `size_max`. */
int image_check_qcow2(const struct storage_sr *sr, int fd, int64_t size_max, int64_t *virtual_size,
                      struct storage_error *error);

/* qemu-img finds the image to be of that format and size, alone, and whole. Only behind checks of one's own:
 * it would open the files that an image names. */
int image_examine(const struct storage_sr *sr, int fd, enum disk_format format, int64_t virtual_size,
                  struct storage_error *error);

/* ---- vmdk.c ---- */
/* Refuses an uploaded VMDK image (of `file_size` bytes) that is damaged, is not one file alone, or whose disk
 * has more than `size_max` bytes. */
int vmdk_check(const struct storage_sr *sr, int fd, int64_t file_size, int64_t size_max,
               int64_t *virtual_size, struct storage_error *error);
/* The first part of that: what can be said without QEMU. */
int vmdk_check_head(int fd, int64_t file_size, int64_t size_max, int64_t *virtual_size,
                    struct storage_error *error);

/* ---- vhd_delta.c ---- */
struct vhd_delta {
    const char *uuid, *parent; /* of the disk, and of the one that it is compared with */
};
/* `bits` as storage_changes_list gives them; fd: the disk's content in raw form. */
int vhd_delta_send(int fd, int64_t size, const struct vhd_delta *names, const uint8_t *bits, size_t bits_len,
                   const struct storage_sink *sink, const struct storage_job *job,
                   struct storage_error *error);

/* ---- vhd.c ---- */
/* Refuses an uploaded VHD image (of `file_size` bytes) that is damaged, cut short, refers to another file, or
 * whose disk has more than `size_max` bytes. Reads the file alone. */
int vhd_check(int fd, int64_t file_size, int64_t size_max, int64_t *virtual_size,
              struct storage_error *error);
/* Makes `t` an empty dynamic image. */
int vhd_make(struct temp_file *t, int64_t size, struct storage_error *error);

static inline bool job_cancelled(const struct storage_job *job)
{
    return job && job->cancel && *job->cancel;
}
static inline void job_progress(const struct storage_job *job, double fraction)
{
    if (job && job->progress)
        job->progress(job->arg, fraction < 0 ? 0 : fraction > 1 ? 1 : fraction);
}
