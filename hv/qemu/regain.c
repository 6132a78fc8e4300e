/* Guests that stand still when their memory has been written. QEMU lets go of the disks then, as though
 * another host had them from now on (status "postmigrate"): whatever writes to one of their images ends QEMU.
 * It takes them back when the guest runs, or when somebody else is to read them; so here they are offered to
 * nobody. */
#include "block.h"
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SOCKET "regain"

/* Has it not run since its memory was written? -1 with err. */
static int let_go(struct qemu_domain *d, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    char status[DOMAIN_STATUS_SIZE];
    return domain_status(d, &soon, status, err) < 0 ? -1 : streq(status, "postmigrate");
}

int domain_check_sendable(struct qemu_domain *d, struct hv_err *err)
{
    int gone = let_go(d, err);
    if (gone <= 0)
        return gone;
    return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                   "QEMU has written the memory of this paused VM before and cannot do so again until the VM "
                   "has run: unpause it first.");
}

/* A server that nobody knows of: its socket has no name any more when the first disk is offered. */
static int serve(const struct block *b)
{
    int fd AUTO_CLOSE = -1;
    unlinkat(b->d->dir.fd, SOCKET, 0); /* of an agent that ended here */
    fd = rundir_listen(&b->d->dir, SOCKET, b->err);
    if (fd < 0)
        return -1;
    unlinkat(b->d->dir.fd, SOCKET, 0);
    if (domain_pass_fd(b->d, fd, SOCKET, b->err) < 0)
        return -1;
    return block_command(b, "nbd-server-start",
                         json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "fd", "data", "str", SOCKET));
}

static int offer_all(const struct block *b)
{
    json_t *blocks AUTO_JSON = NULL, *block;
    size_t i;
    const char *node;
    if (domain_command(b->d, "query-block", NULL, b->deadline, &blocks, b->err) < 0)
        return -1;
    json_array_foreach(blocks, i, block)
    {
        char id[32];
        snprintf(id, sizeof(id), SOCKET "%zu", i);
        if (json_get_string(json_object_get(block, "inserted"), "node-name", &node) &&
            block_command(b, "block-export-add",
                          json_pack("{s:s, s:s, s:s, s:b}", "type", "nbd", "id", id, "node-name", node,
                                    "writable", 0)) < 0)
            return -1;
    }
    return 0;
}

int domain_regain_disks(struct qemu_domain *d, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    struct block b = {.d = d, .deadline = &soon, .err = err};
    int gone = let_go(d, err);
    if (gone <= 0)
        return gone;
    if (serve(&b) < 0)
        return -1;
    int outcome = offer_all(&b);
    struct block end = {.d = d, .deadline = &soon, .err = outcome < 0 ? NULL : err};
    return block_command(&end, "nbd-server-stop", NULL) < 0 ? -1 : outcome;
}
