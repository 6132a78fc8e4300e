/* A real hostd under a CA made for the test, commanded through the client library. The identity is put into
 * STATE/pki as agent/join.c describes, in place of joining a pool. */
#pragma once
#include <base/proc.h>
#include <hv/client.h>
#include <hv/domain.h>

#define VM "11111111-1111-4111-8111-111111111111"
#define SR "22222222-2222-4222-8222-222222222222"
#define ISO_SR "22222222-2222-4222-8222-222222222223"
#define DISK "33333333-3333-4333-8333-333333333333"
#define HOST "44444444-4444-4444-8444-444444444444"
#define HOST_2 "44444444-4444-4444-8444-444444444445"
#define QEMU_BINARY "/usr/bin/qemu-system-x86_64"

struct fixture {
    char dir[64], state[96], storage[96], isos[96];
    const char *tag; /* unique to this run; part of the path dir */
    const char *driver;
    const char *uuid;       /* of the host: HOST, or HOST_2 */
    const char *images;     /* folder of kernels, set after fixture_start and before a launch; NULL: none */
    const char *failpoint;  /* for the next launch; NULL: none */
    const char *failpoints; /* the same: folder of base/failpoint.h; NULL: none */
    const char *cgroup;     /* the same: a tree of control groups; NULL: none */
    const char *min_uptime; /* the same: seconds; NULL: 0 */
    struct proc hostd;
    bool running;
    struct hv_host *host;
    int port;
};

/* Skips the test when the driver is qemu and QEMU is not there. */
void fixture_start(struct fixture *f, const char *driver);
/* A second host of the same pool. */
void fixture_start_second(struct fixture *f, const struct fixture *first);
/* Attaches a file SR that is there, or makes it first. */
void fixture_attach(struct fixture *f, const char *sr, const char *location, bool make);
/* Ends hostd in good order, checks that nothing of a domain is left and that it exited with 0. */
void fixture_stop(struct fixture *f);
void fixture_launch(struct fixture *f);
/* kill -9 of hostd. */
void fixture_kill(struct fixture *f);
/* Waits until hostd was killed at f->failpoint. */
void fixture_await_death(struct fixture *f);
/* Entries in a folder of the state. */
int fixture_count(const struct fixture *f, const char *folder);

/* A fresh operation with 60 seconds. */
struct hv_op fresh_op(void);
/* A minimal domain: one disk DISK of SR, an empty CD drive hdc, a nic. */
void small_domain(struct domain_config *config);
/* Attaches SR (a file SR in f->storage) and makes DISK with the boot sector of the tests in it. */
void fixture_storage(struct fixture *f);
/* Calls that must succeed. */
struct domain_info must_start(struct fixture *f, const struct domain_config *config);
void must_call(struct fixture *f, enum hv_call_id call, const char *domain);
struct domain_info must_info(struct fixture *f);
/* Fails with that kind. */
void must_fail(struct fixture *f, enum hv_call_id call, const char *domain, enum hv_err_kind kind);
/* Waits for an event of VM in that state. */
void must_become(struct fixture *f, const char *cursor, enum domain_state state, enum end_reason reason,
                 int64_t within_ms);
/* The cursor of now. The caller frees. */
char *cursor_now(struct fixture *f);
/* A disk of SR, raw. */
void must_create(struct fixture *f, const char *disk, int64_t size_bytes);
/* A disk that VM's memory fits on. */
void must_create_state(struct fixture *f, const char *disk);
/* Types a digit that the guest of the tests answers with a letter (boot_sector.s). */
char must_tell(struct stream *console, char digit);
/* Reads a console until the text was seen. */
void must_see(struct stream *console, const char *text);
struct stream *must_console(struct fixture *f, const char *kind);
