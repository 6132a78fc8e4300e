/* The xe command engine: takes the words of a command line, talks XenAPI through callbacks, returns
 * an exit code. It knows no socket, terminal or file; who embeds it (the xe program, a server-side
 * door for thin clients) brings those as struct xe_api. One engine run is one thread's work. */
#pragma once
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a step failed. `text` is set for all but XE_ERR_API. Freed with xe_err_done. */
enum xe_err_kind {
    XE_ERR_NONE,
    XE_ERR_API,        /* the server refused: code and parameters */
    XE_ERR_TRANSPORT,  /* no answer, or one that makes no sense: text is a sentence */
    XE_ERR_USAGE,      /* the command line is wrong: text, then the hint line */
    XE_ERR_CLI,        /* the command cannot do it: "Error: text" */
    XE_ERR_PLAIN,      /* the same without "Error: " before it */
    XE_ERR_CANCELLED,  /* interrupted by the user */
    XE_ERR_UNFINISHED, /* --wait=SECONDS ran out: the task goes on without us */
};
struct xe_err {
    enum xe_err_kind kind;
    char *code;
    char **params;
    size_t param_count;
    char *text;
};
void xe_err_done(struct xe_err *err);
/* They replace what `err` held. */
void xe_err_set(struct xe_err *err, enum xe_err_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void xe_err_vset(struct xe_err *err, enum xe_err_kind kind, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
/* `params`: array of strings (other values as JSON text), borrowed; NULL: none. */
void xe_err_set_api(struct xe_err *err, const char *code, const json_t *params);

/* How a transfer goes on: called now and then with bytes moved and their total (0: unknown).
 * A non-zero result ends the transfer. */
typedef int xe_progress_fn(void *arg, uint64_t done, uint64_t total);

/* How a piece of output looks on a terminal with colours. */
enum xe_style { XE_STYLE_PLAIN, XE_STYLE_GOOD, XE_STYLE_BAD, XE_STYLE_FAINT, XE_STYLE_STRONG };

/* A disk in an OVA archive. */
struct xe_ova_disk {
    const char *member; /* its name there */
    int64_t capacity;   /* bytes */
};

/* What the engine needs of its surroundings. Every int result is 0, or -1 with *err set. */
struct xe_api {
    void *ctx;
    /* One XenAPI call; `params` is the array without the session and stays the caller's. `keep`,
     * when not NULL, lists the record fields that matter (NULL at its end): for get_record and
     * get_all_records the answer's records may lack the others. *result is the caller's. */
    int (*call)(void *ctx, const char *method, json_t *params, const char *const *keep, json_t **result,
                struct xe_err *err);
    /* The own session's reference, borrowed, and NULL with *err when there is none. */
    const char *(*session)(void *ctx, struct xe_err *err);
    /* The session to come is for the server that answers alone, which need not be the coordinator (XenAPI:
     * slave_local_login_with_password). NULL: all are of the pool. */
    void (*log_in_locally)(void *ctx);
    /* Calls go out in this session from now on (borrowed); NULL: in the own one again. */
    void (*use_session)(void *ctx, const char *session);
    /* Text for stdout and stderr as it is, no newline added. */
    void (*print)(void *ctx, const char *text, size_t len);
    void (*print_error)(void *ctx, const char *text, size_t len);
    /* One line from the user without its newline (the caller's), after `question` was shown; -1: no
     * one to ask. NULL: same. */
    int (*prompt)(void *ctx, const char *question, char **answer, struct xe_err *err);
    /* The same for a password, which is not shown while it is typed. NULL where that cannot be kept. */
    int (*prompt_secret)(void *ctx, const char *question, char **answer, struct xe_err *err);
    /* The whole of a small local file that the command line names (the caller's). */
    int (*read_file)(void *ctx, const char *name, char **data, size_t *len, struct xe_err *err);
    /* PUTs a local file to, or GETs into one from, `path` (with query) on the server, with the
     * session's cookie. "-" is stdin or stdout. `out_exists` is decided by the callee. */
    int (*upload)(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg,
                  struct xe_err *err);
    int (*download)(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg,
                    struct xe_err *err);
    /* Sends a local file in parts to the uploads at `path` (tus, over REST), from where an earlier attempt
     * with the same file has got to. `anew`: whatever upload is there is given up before. NULL where that
     * cannot be. */
    int (*upload_parts)(void *ctx, const char *filename, const char *path, const char *format, bool anew,
                        xe_progress_fn *progress, void *arg, struct xe_err *err);
    /* GETs the content at `path` (REST) into a local file, from where an earlier attempt with the same file
     * has got to, unless the content has changed since. `anew`: from the beginning. NULL where that cannot
     * be. */
    int (*download_parts)(void *ctx, const char *filename, const char *path, bool anew,
                          xe_progress_fn *progress, void *arg, struct xe_err *err);
    /* Makes a disk with a Debian on this machine (guest/build-debian with these options, NULL at their end;
     * `password`: of root, one line, or NULL). *file is its path, the caller's; drop_disk removes it. NULL
     * where that cannot be. */
    int (*build_disk)(void *ctx, const char *const *options, const char *password, xe_progress_fn *progress,
                      void *arg, char **file, struct xe_err *err);
    void (*drop_disk)(void *ctx, const char *file);
    /* How many bytes the disk has that a local file or block device holds (format raw, qcow2 or vhd). A qcow2
     * that needs other files is an error. NULL where that cannot be. */
    int (*disk_size)(void *ctx, const char *filename, const char *format, int64_t *size, struct xe_err *err);
    /* What is at an address (http or https), as a file on this machine. *file is its path, the caller's;
     * drop_disk removes it. NULL where that cannot be. */
    int (*fetch)(void *ctx, const char *url, xe_progress_fn *progress, void *arg, char **file,
                 struct xe_err *err);
    /* The description in an OVA archive, or of an OVF file (the caller's); *text is NULL for any other file.
     * NULL where such files cannot be read. */
    int (*open_ova)(void *ctx, const char *filename, char **text, size_t *len, struct xe_err *err);
    /* A disk of such a file, which has `capacity` bytes, as a raw one on this machine. *file is its path, the
     * caller's; drop_disk removes it. */
    int (*ova_disk)(void *ctx, const char *filename, const char *member, int64_t capacity,
                    xe_progress_fn *progress, void *arg, char **file, struct xe_err *err);
    /* Writes an OVA archive of this description, and of the disks that `fetch` brings one after the other,
     * each as a raw file that is not there yet. The file is there whole or not at all. NULL where that cannot
     * be. */
    int (*write_ova)(void *ctx, const char *filename, const char *description,
                     const struct xe_ova_disk *disks, size_t count,
                     int (*fetch)(void *arg, size_t disk, const char *file), xe_progress_fn *progress,
                     void *arg, struct xe_err *err);
    /* Joins the terminal with a console web socket at `path` until one side ends. */
    int (*console)(void *ctx, const char *path, struct xe_err *err);
    /* Lets viewers see the screen whose console web socket is at `path`: one after the other, at a local port
     * (0: any) or socket, whose name is printed; `once`: the first one alone. Until Ctrl-C. NULL where that
     * cannot be. */
    int (*screen)(void *ctx, const char *path, const char *where, bool once, struct xe_err *err);
    /* One request of REST with the session: `method` as in HTTP, `body` NULL: none. *result is the parsed
     * answer, null for none. */
    int (*rest)(void *ctx, const char *method, const char *path, json_t *body, json_t **result,
                struct xe_err *err);
    /* True once the user asked to stop (Ctrl-C). NULL: never. A call that waits returns
     * XE_ERR_CANCELLED then, until `resume` is called, so that the engine can cancel its task. */
    bool (*interrupted)(void *ctx);
    void (*resume)(void *ctx);
    /* stderr is a terminal: progress may be drawn. */
    bool progress_terminal;
    /* What is printed from now on looks like this; `on_error`: on stderr. NULL: no colours. */
    void (*style)(void *ctx, bool on_error, enum xe_style style);
    /* Before a list is shown again by --watch: empties the terminal, or separates the lists in a file. NULL:
     * --watch is refused, for nobody could end it. */
    void (*redraw)(void *ctx);
};

/* Exit codes, the same for every command. */
enum xe_exit {
    XE_EXIT_DONE = 0,
    XE_EXIT_FAILED = 1,        /* refused, failed, or the command line is wrong */
    XE_EXIT_UNREACHABLE = 3,   /* no server, not the one that is trusted, or it went away */
    XE_EXIT_UNFINISHED = 4,    /* --wait=SECONDS ran out; the task goes on */
    XE_EXIT_INTERRUPTED = 130, /* Ctrl-C */
};
/* Runs `argv` (command first, then name=value, --name). One of enum xe_exit. Everything to say has been
 * printed. */
int xe_run(const struct xe_api *api, int argc, const char *const *argv);

/* Prints what the last word may become, one candidate a line; the words before it are as for xe_run. What
 * ends in '=' or ':' is not finished. Nothing is said about failures. */
void xe_complete(const struct xe_api *api, int argc, const char *const *argv);

/* For completion and manuals. Commands in name order; false when `index` is past the end. */
struct xe_command_info {
    const char *name, *help, *example;
    bool standard, hidden, built;
};
bool xe_command_info(size_t index, struct xe_command_info *out);
